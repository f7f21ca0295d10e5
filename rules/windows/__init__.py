"""Window queries and their in-memory implementation."""

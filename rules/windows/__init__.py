"""Window queries, and windows in memory as their model."""

"""Window queries, and windows in memory."""

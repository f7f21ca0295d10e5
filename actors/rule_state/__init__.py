"""State of rules in Redis: the published rules and their windows."""

"""State that rules keep between events: the compiled rules and their windows in Redis."""

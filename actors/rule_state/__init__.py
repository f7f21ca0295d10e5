"""State of rules in Redis: the published rules, their windows and their cooldowns."""

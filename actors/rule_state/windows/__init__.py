"""Windows and cooldowns in Redis: one Lua script for each window query."""

"""Windows and cooldowns in Redis, and their Lua scripts."""

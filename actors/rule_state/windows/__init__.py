"""Rule windows in Redis: one Lua script for each window query."""

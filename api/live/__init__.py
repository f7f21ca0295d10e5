"""The WebSocket gateway, a process of its own."""

"""HTTP API and WebSocket gateway."""

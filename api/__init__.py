"""The HTTP API, and the live gateway."""

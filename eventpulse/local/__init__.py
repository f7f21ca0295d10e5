"""Embedded servers and the supervisor of `eventpulse up`."""

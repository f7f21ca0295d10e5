"""Prefix of every key and channel of EventPulse in Redis."""

KEY_PREFIX = "eventpulse"

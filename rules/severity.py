"""Severities of rules and alerts."""

#: Lowest first.
SEVERITIES = ("info", "warning", "critical")

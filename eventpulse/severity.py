"""Severities of rules, alerts and channels."""

#: Severities in ascending order.
SEVERITIES = ("info", "warning", "critical")

"""Severities of rules, alerts and channels: here, because models, rules and the API all use them."""

#: Lowest first.
SEVERITIES = ("info", "warning", "critical")

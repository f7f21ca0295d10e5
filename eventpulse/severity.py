"""Severities of rules, alerts and channels, in this package because models, rules and the API use them."""

#: In ascending order.
SEVERITIES = ("info", "warning", "critical")

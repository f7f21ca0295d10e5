"""Slack channels: the notifier for incoming webhooks, and the layout of its messages."""

"""Slack channels: the incoming webhook and the layout of its messages."""

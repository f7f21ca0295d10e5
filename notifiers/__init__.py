"""Delivery of a notification to a channel. This package uses neither the database nor the queues."""

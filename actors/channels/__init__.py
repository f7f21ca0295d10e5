"""Delivery of notifications to channels: one queue for each channel, and sends that wait for no other channel."""

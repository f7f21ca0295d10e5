"""Delivery of one notification to one channel, without any use of the database or the queue."""

"""Deliver one notification to one channel; know neither database nor queue."""

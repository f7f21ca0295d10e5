"""Periodic jobs that find lost work and requeue it."""

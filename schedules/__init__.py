"""Periodic jobs, and the election of the scheduler that runs them."""

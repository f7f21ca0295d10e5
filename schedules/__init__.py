"""Periodic jobs, and the election of the one scheduler that runs them."""

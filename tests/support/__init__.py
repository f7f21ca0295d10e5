"""Helpers that several tests share, named for what they make."""

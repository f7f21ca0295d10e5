"""Condition types, one file each."""

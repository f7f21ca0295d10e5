"""Evaluation of rules against a batch of events."""

"""Evaluation of rules: the index, the evaluation of a batch, and the message of an anomaly."""

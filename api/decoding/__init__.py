"""Decoding and validation of event request bodies."""

"""Stages of the pipeline: ingest, persist, evaluate, notify. Importing this package declares the actors."""

from actors.pipeline import evaluate, notify, persist

__all__ = ["evaluate", "notify", "persist"]

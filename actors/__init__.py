"""Processing of accepted events. `actors.pipeline` declares the Dramatiq actors."""

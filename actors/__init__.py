"""Processing of events after they were accepted. `actors.pipeline` declares the Dramatiq actors."""

"""Recovery of lost work, and dead letters."""

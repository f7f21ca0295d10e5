"""Interface of windows, and an implementation in memory as the model for tests."""

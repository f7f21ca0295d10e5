"""The command line: one file for each command or group, and one line in the registry of `main`."""

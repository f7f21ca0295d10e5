"""Command line: one file for each command or group of commands, which are registered in `main`."""

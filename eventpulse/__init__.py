"""The frame: settings, logs, the command line, the launcher. It starts things and decides nothing."""

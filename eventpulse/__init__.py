"""The frame: settings, logs, the command line, the launcher. It starts things and decides nothing."""

__version__ = "0.1.0"

"""Modules that the processes share, such as the settings, the command line (`cli`) and `eventpulse up` (`local`)."""

__version__ = "0.1.0"

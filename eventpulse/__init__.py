"""Settings, logs and other modules that every process uses, the command line (`cli`) and `eventpulse up` (`local`)."""

__version__ = "0.1.0"

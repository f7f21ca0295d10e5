"""Request bodies to valid events."""

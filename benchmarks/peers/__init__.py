"""The systems that a user would pick instead, each draining the same backlog into the same table."""

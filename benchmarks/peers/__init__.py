"""Other queue systems for comparison: each drains a backlog of events into the same table."""

"""Alternative systems for comparison: each drains the same backlog into the same table."""

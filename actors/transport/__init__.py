"""Dramatiq on Redis, with messages leased in batches. Knows no event, no rule and no PostgreSQL."""

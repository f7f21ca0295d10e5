"""Dramatiq on Redis, with messages leased in batches. Independent of events, rules and PostgreSQL."""

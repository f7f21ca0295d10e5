"""Dramatiq on Redis: a broker that leases messages in batches. Knows no event, no rule and no PostgreSQL."""

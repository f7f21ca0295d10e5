"""Conversion of times to text, always in UTC."""

from datetime import UTC, datetime


def iso_utc(time: datetime) -> str:
    """Return the time as ISO 8601 with `Z`, such as `2026-11-20T03:12:45.300000Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def display_utc(time: datetime) -> str:
    """Return the time in readable form, without fractions of a second, such as `2026-11-20 03:12:45 UTC`."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

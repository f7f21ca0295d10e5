"""Events as rules see them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Times are integer microseconds since 1970: exact in Python, in Lua and as scores of a sorted set until the year 2255.
SECOND = 1_000_000

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Event(msgspec.Struct, frozen=True):
    """One accepted event: `timestamp` is when it happened, `received_at` when it arrived. Both have a time zone."""

    event_id: str
    event_type: str
    source: str
    timestamp: Time
    payload: dict[str, Any]
    metadata: dict[str, Any]
    received_at: Time


def microseconds(time: datetime) -> int:
    """Return the exact number of microseconds since 1970."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def moment(at: int) -> datetime:
    """Return the UTC time that is `at` microseconds after the start of 1970."""
    return EPOCH + timedelta(microseconds=at)

"""An event, as the rules see it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Times are whole microseconds since 1970: exact in Python, in Lua and in a sorted set's doubles until the year 2255.
SECOND = 1_000_000

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Event(msgspec.Struct, frozen=True):
    """One accepted event. `timestamp` is its own time, `received_at` ours; both have a zone."""

    event_id: str
    event_type: str
    source: str
    timestamp: Time
    payload: dict[str, Any]
    metadata: dict[str, Any]
    received_at: Time


def microseconds(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def moment(at: int) -> datetime:
    """The time, in UTC, of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=at)

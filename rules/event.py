"""Events as the input of rules, and their times in microseconds."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Microseconds in a second. Times are integer microseconds since the Unix epoch, which are exact in Python, in Lua and
#: as scores of a sorted set until the year 2255.
SECOND = 1_000_000

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Event(msgspec.Struct, frozen=True):
    """One event. `timestamp` was sent by the client, `received_at` is its time of arrival; both have a time zone."""

    event_id: str
    event_type: str
    source: str
    timestamp: Time
    payload: dict[str, Any]
    metadata: dict[str, Any]
    received_at: Time


def microseconds(time: datetime) -> int:
    """Return the exact number of microseconds from the Unix epoch to `time`."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def moment(at: int) -> datetime:
    """Return the UTC time that is `at` microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=at)

"""Interface to a system under test, implemented for EventPulse and for stock Dramatiq."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eventpulse.local.daemon import Daemon

Event = dict[str, Any]
#: Name of the rule, group as JSON, and id of the event for which the rule fired.
AnomalyKey = tuple[str, str, str]


class EventLocations(NamedTuple):
    """Current locations of the events; an event may be in several locations."""

    #: Number of rows by event id.
    stored: Counter[str]
    #: Ids of the events that are dead letters.
    dead: set[str]
    #: Number of waiting, delayed and leased messages by event id.
    in_progress: Counter[str]
    #: Ids of the events that a lost or unknown worker has leased. Unreadable entries are listed by queue and id.
    stranded: set[str]


class System(Protocol):
    """Running system with its own Redis and PostgreSQL: an HTTP API, workers and possibly schedulers.

    The units "api", "worker" and "scheduler" may have several processes, each of which is restarted `RESTART_SECONDS`
    after its end. Redis and PostgreSQL are not restarted automatically: faults stop and start them.
    """

    name: str
    #: Base URL of the API. The status of `POST {url}/events/batch` is 202 if the events are accepted.
    url: str
    redis: Daemon
    postgres: Daemon

    def pids(self, unit: str) -> Sequence[int]:
        """Return the pids of the processes of a unit, oldest first; for the API, the pids of its workers."""

    def stop(self, unit: str, which: int) -> None:
        """Stop process number `which` of a unit gracefully (SIGTERM); the supervisor then restarts the process."""

    def locations(self) -> EventLocations:
        """Return the current locations of the events. Needs Redis and PostgreSQL."""

    def evaluations(self) -> Mapping[str, int]:
        """Return the number of recorded evaluations by event id; a number above 1 is a violation."""

    def is_idle(self) -> bool:
        """Return whether all messages and deliveries are finished. Needs Redis and PostgreSQL."""

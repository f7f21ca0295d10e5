"""Interface of a system under test: the same for EventPulse and stock Dramatiq."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eventpulse.local.daemon import Daemon

Event = dict[str, Any]
#: Name of the rule, group as JSON, id of the event that fired the rule.
AnomalyKey = tuple[str, str, str]


class EventLocations(NamedTuple):
    """Current locations of the events, by id; an event may be in several."""

    #: Number of rows by event id.
    stored: Counter[str]
    #: Ids of the dead letters.
    dead: set[str]
    #: Number of messages, waiting, delayed or leased, by event id.
    in_progress: Counter[str]
    #: Ids leased by a lost or an unknown worker.
    stranded: set[str]


class System(Protocol):
    """A running system with its own Redis and PostgreSQL: an HTTP API, workers and possibly schedulers.

    Its processes are restarted `RESTART_SECONDS` after they end. Units are "api", "worker" and "scheduler"; the last
    two may have several processes. The servers are not restarted automatically: faults stop and start them.
    """

    name: str
    #: `POST {url}/events/batch` with a JSON array answers 202 when the events are accepted.
    url: str
    redis: Daemon
    postgres: Daemon

    def pids(self, unit: str) -> Sequence[int]:
        """Return the running processes of a unit, oldest first; for the API, the gunicorn workers."""

    def stop(self, unit: str, which: int) -> None:
        """Restart one process gracefully (SIGTERM): one step of a rolling restart."""

    def locations(self) -> EventLocations:
        """Return the event locations. Needs both servers."""

    def evaluations(self) -> Mapping[str, int]:
        """Return how often the evaluation of each event had an effect; more than once is a violation."""

    def is_idle(self) -> bool:
        """Return whether the system has no work left. Needs both servers."""

"""What the battery needs of a system that takes events in: the same questions and the same blows for every one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eventpulse.local.daemon import Daemon

Event = dict[str, Any]
#: A rule that fired: its name, its group as JSON, and the event that made it fire.
Found = tuple[str, str, str]


class Holdings(NamedTuple):
    """Where the events are by now, by their ids; an event may be in several places."""

    #: How many rows each has.
    stored: Counter[str]
    #: Given up, with the reason kept.
    dead: set[str]
    #: Still to be worked on: waiting, delayed, or leased by whoever it is.
    underway: Counter[str]
    #: Leased by a worker process that does not exist any more, or by none that is known.
    stranded: set[str]


class Plant(Protocol):
    """A running system on servers of its own: an API over HTTP, workers, and whatever else it has.

    Whatever of its own processes ends, by whatever cause, is started again `RESTART_SECONDS` later, as an
    orchestrator would. Units are named: "api", "worker", "scheduler" ("worker" and "scheduler" may be several
    processes). The two servers are the caller's to kill and start: they are not restarted by themselves.
    """

    name: str
    #: Where events are posted: `POST {url}/events/batch` of a JSON array answers 202 when they are accepted.
    url: str
    redis: Daemon
    postgres: Daemon

    def pids(self, unit: str) -> Sequence[int]:
        """The processes of a unit that do its work and live, oldest first: of gunicorn, its workers."""

    def stop(self, unit: str, which: int) -> None:
        """Ask one process to stop in order (SIGTERM), and start another when it has: one step of a rolling restart."""

    def holdings(self) -> Holdings:
        """Where the events are. Needs both servers."""

    def evaluations(self) -> Mapping[str, int]:
        """How often the stage after the storing had an effect for each event: never more than once is right."""

    def quiet(self) -> bool:
        """Whether nothing is left to do, as far as this system knows itself. Needs both servers."""

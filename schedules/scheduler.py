"""One scheduler process: keeps the timetable while it leads, and waits for its turn while it does not."""

import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from actors import runtime
from actors.broker import broker
from actors.worker import exit_within
from eventpulse import preflight
from eventpulse.settings import ConnectedSettings
from schedules.leader import Leadership
from schedules.timetable import PeriodicJob, timetable

log = structlog.get_logger()

#: How often leadership is tried, or proven.
PULSE_SECONDS = 2.0
#: How long duties that are under way may take to finish; each is done again by the next leader.
END_SECONDS = 1.5


def run(settings: ConnectedSettings) -> int:
    """Keep the timetable, in turn with other schedulers, until SIGTERM or SIGINT; returns 0.

    Raises `PreflightError` when a server would lose events.
    """
    preflight.ensure_ready(settings)
    runtime.setup(settings, name="scheduler")
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        exit_within(END_SECONDS, code=0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    leadership = Leadership(settings.database_url)
    keep(timetable(settings), leadership, stop)
    leadership.release()
    broker.client.close()
    return 0


def keep(duties: dict[str, PeriodicJob], leadership: Leadership, stop: threading.Event) -> None:
    """Run the duties while leading, until `stop` is set."""
    scheduler: BackgroundScheduler | None = None
    away: str | None = None
    log.info("scheduler_ready")
    while not stop.is_set():
        leads = leadership.hold()
        if leadership.error != away:
            away = leadership.error
            if away:
                log.warning("postgresql_away", error=away)
            else:
                log.info("postgresql_back")
        if leads and scheduler is None:
            log.info("leadership_taken")
            scheduler = _start(duties)
        elif not leads and scheduler is not None:
            log.warning("leadership_lost")
            scheduler.shutdown()
            scheduler = None
        stop.wait(PULSE_SECONDS)
    if scheduler is not None:
        scheduler.shutdown()


def _start(duties: dict[str, PeriodicJob]) -> BackgroundScheduler:
    # Jobs live in memory: a store shared by schedulers would run them twice.
    scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(len(duties))}, timezone=UTC)
    for name, duty in duties.items():
        scheduler.add_job(
            _tolerantly(name, duty.act),
            "interval",
            seconds=duty.every_seconds,
            id=name,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    scheduler.start()
    return scheduler


def _tolerantly(name: str, act: Callable[[], object]) -> Callable[[], None]:
    """A duty that fails is logged and comes round again; it never stops the others."""

    def attempt() -> None:
        try:
            act()
        except Exception as error:
            log.error("duty_failed", duty=name, error=f"{type(error).__name__}: {error}", exc_info=log.isEnabledFor(10))

    return attempt

"""Scheduler process, which runs the periodic jobs while it leads, and otherwise waits for the leadership."""

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from actors import runtime
from actors.broker import broker
from actors.worker import exit_within
from eventpulse import preflight
from eventpulse.settings import ConnectedSettings
from models import migrations
from schedules.leader import Leadership
from schedules.timetable import PeriodicJob, timetable

log = structlog.get_logger()

#: Interval between attempts to acquire or confirm the leadership.
LEADERSHIP_INTERVAL_SECONDS = 2.0
#: Maximum duration of a shutdown. The next leader repeats an interrupted job.
SHUTDOWN_SECONDS = 1.5


def run(settings: ConnectedSettings) -> int:
    """Run the periodic jobs while this process leads; return 0 after SIGTERM or SIGINT.

    Raises `PreflightError` if a preflight check has a fatal finding.
    """
    preflight.ensure_ready(settings, migrations.pending)
    runtime.setup(settings, name="scheduler")
    stop = threading.Event()

    def handle_signal(*_: object) -> None:
        stop.set()
        exit_within(SHUTDOWN_SECONDS, code=0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle_signal)
    leadership = Leadership(settings.database_url)
    run_while_leader(timetable(settings), leadership, stop)
    leadership.release()
    broker.client.close()
    return 0


def run_while_leader(jobs: Mapping[str, PeriodicJob], leadership: Leadership, stop: threading.Event) -> None:
    """Run the jobs whenever this process leads, until `stop` is set."""
    scheduler: BackgroundScheduler | None = None
    last_error: str | None = None
    log.info("scheduler_ready")
    while not stop.is_set():
        leads = leadership.acquire()
        if leadership.error != last_error:
            last_error = leadership.error
            _log_postgresql(last_error)
        if leads and scheduler is None:
            log.info("leadership_acquired")
            scheduler = _start(jobs)
        elif not leads and scheduler is not None:
            log.warning("leadership_lost")
            scheduler.shutdown()
            scheduler = None
        stop.wait(LEADERSHIP_INTERVAL_SECONDS)
    if scheduler is not None:
        scheduler.shutdown()


def _log_postgresql(error: str | None) -> None:
    if error is None:
        log.info("postgresql_available")
    else:
        log.warning("postgresql_unavailable", error=error)


def _start(jobs: Mapping[str, PeriodicJob]) -> BackgroundScheduler:
    """Start a scheduler with one thread for each job. Each job first runs immediately, then at its interval."""
    # The job store is in memory: with a store that several schedulers share, each job would run more than once.
    # APScheduler warns each time that a job is due before its previous run has ended, which may be four times a second.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(len(jobs))}, timezone=UTC)
    for name, job in jobs.items():
        scheduler.add_job(
            _log_exceptions(name, job.run),
            "interval",
            seconds=job.every_seconds,
            id=name,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    scheduler.start()
    return scheduler


def _log_exceptions(name: str, run: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls `run` and logs its exceptions, so that a failed job runs again at its next time."""

    def run_and_log() -> None:
        try:
            run()
        except Exception as error:
            log.error("job_failed", job=name, error=f"{type(error).__name__}: {error}", exc_info=log.isEnabledFor(10))

    return run_and_log

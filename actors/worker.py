"""Worker process, which starts, checks and stops the threads of Dramatiq."""

import os
import signal
import threading
import time

import dramatiq
import redis
import structlog

import actors.pipeline  # noqa: F401 - declares the actors
from actors import runtime
from actors.broker import broker
from actors.transport.redis_broker import is_unavailable
from eventpulse import preflight
from eventpulse.settings import ConnectedSettings
from models import migrations
from notifiers.http import TOTAL_SECONDS as LONGEST_SEND_SECONDS

log = structlog.get_logger()

#: Interval of the thread liveness check and of lease recovery.
WATCH_SECONDS = 1.0
#: Maximum wait for calls in progress after a stop signal: long enough to complete and record a send, because a
#: notification that is not recorded would be sent twice. A worker without calls in progress does not wait.
GRACE_SECONDS = LONGEST_SEND_SECONDS + 1
#: Time after which a stopping process exits even if a thread is still blocked, for example by an unavailable Redis.
FORCED_EXIT_SECONDS = GRACE_SECONDS + 1


def run(settings: ConnectedSettings) -> int:
    """Process messages until SIGTERM or SIGINT, then return 0; return 1 if a thread ends before a signal.

    Raises `PreflightError` if a preflight check has a fatal finding, and `redis.RedisError` if Redis is unavailable at
    start.
    """
    preflight.ensure_ready(settings, migrations.pending)
    runtime.setup(settings)
    broker.client.ping()
    stop = _stop_on_signals()
    worker = dramatiq.Worker(broker, worker_threads=broker.total_concurrency, worker_timeout=500)
    worker.start()
    # The start of the event loop and its HTTP client takes about 100 ms, which would delay the first alert.
    runtime.current().dispatcher.wake([])
    log.info("worker_ready", threads=broker.total_concurrency)
    healthy = True
    while healthy and not stop.wait(WATCH_SECONDS):
        healthy = all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
        recover_leases()
    if not healthy:
        # The process must be restarted: without one of its threads, it could send heartbeats but process no messages.
        log.critical("worker_thread_ended")
        exit_within(FORCED_EXIT_SECONDS, code=1)
    _stop(worker)
    return 0 if healthy else 1


def _stop(worker: dramatiq.Worker) -> None:
    """Stop the calls of actors, then the sends to channels; wait for both for at most `GRACE_SECONDS`."""
    deadline = time.monotonic() + GRACE_SECONDS
    worker.stop(timeout=int(GRACE_SECONDS * 1000))
    try:
        runtime.current().dispatcher.stop(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        log.warning("sends_interrupted")


def _stop_on_signals() -> threading.Event:
    """Return a `threading.Event` that SIGTERM and SIGINT set.

    After a signal, the process exits within `FORCED_EXIT_SECONDS`.
    """
    stop = threading.Event()

    def handle(*_: object) -> None:
        stop.set()
        exit_within(FORCED_EXIT_SECONDS, code=0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop


def recover_leases() -> None:
    """Requeue or dead-letter the messages of expired consumers, and log the numbers of messages.

    Every worker recovers leases, so that messages are processed even if no scheduler runs.
    """
    try:
        requeued, dead = broker.recover()
    except redis.RedisError as error:
        if not is_unavailable(error):  # consumers already log outages
            log.error("leases_not_recovered", error=str(error))
        return
    if requeued or dead:
        log.warning("leases_recovered", messages=requeued, dead_letters=dead)


def exit_within(seconds: float, code: int) -> None:
    """Start a timer that exits the process with `code` after `seconds`, if the process is still running then."""

    def force_exit() -> None:
        log.warning("forced_exit", after_seconds=seconds)
        os._exit(code)

    timer = threading.Timer(seconds, force_exit)
    timer.daemon = True
    timer.start()

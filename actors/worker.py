"""One worker process: Dramatiq's threads, watched, and stopped in order."""

import os
import signal
import threading

import dramatiq
import redis
import structlog

import actors.pipeline  # noqa: F401 - declares the actors
from actors import runtime
from actors.broker import broker
from actors.transport.redis_broker import is_unavailable
from eventpulse import preflight
from eventpulse.settings import ConnectedSettings

log = structlog.get_logger()

#: How often it is seen to that our threads live, and that no dead worker keeps what it held.
WATCH_SECONDS = 1.0
#: What is still running then is given up; its leases run out, and others do it again.
GRACE_MS = 2_000
#: After so long the process ends, whatever still holds it, such as a Redis that does not answer.
END_SECONDS = 3.0


def run(settings: ConnectedSettings) -> int:
    """Work until SIGTERM or SIGINT; returns 0 then, and 1 when a thread of ours died.

    Raises `PreflightError` when a server would lose events, and `redis.ConnectionError` when Redis is away at the start.
    """
    preflight.ensure_ready(settings)
    runtime.setup(settings)
    broker.client.ping()
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        exit_within(END_SECONDS, code=0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threads = sum(actor.options.get("concurrency", 1) for actor in broker.actors.values())
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=500)
    worker.start()
    log.info("worker_ready", threads=threads)
    healthy = True
    while healthy and not stop.wait(WATCH_SECONDS):
        healthy = all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
        reap()
    if not healthy:
        # A worker without one of its threads looks alive and does nothing: better to start afresh.
        log.critical("worker_thread_died")
        exit_within(END_SECONDS, code=1)
    worker.stop(timeout=GRACE_MS)
    return 0 if healthy else 1


def reap() -> None:
    """Give what dead workers held to the living. Every worker does: this must not depend on a scheduler."""
    try:
        again, dead = broker.recover()
    except redis.RedisError as error:
        if not is_unavailable(error):  # of that the consumers tell
            log.error("leases_not_recovered", error=str(error))
        return
    if again or dead:
        log.warning("dead_workers_leases_recovered", messages=again, dead_letters=dead)


def exit_within(seconds: float, code: int) -> None:
    """Let this process end by itself for so long, then end it."""

    def end() -> None:
        log.warning("ended_by_force", after_seconds=seconds)
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()

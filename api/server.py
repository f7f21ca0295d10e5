"""Server of the HTTP API: a gunicorn parent process, and worker processes that handle requests in greenlets."""

import socket
from typing import Any

import falcon
import gunicorn.app.base
import gunicorn.glogging
import gunicorn.http.wsgi
import structlog

from eventpulse import ports, preflight
from eventpulse.log_sampler import SamplingFilter
from eventpulse.settings import ConnectedSettings

log = structlog.get_logger()

#: Maximum number of concurrent connections of one worker process; a connection occupies a greenlet, not a thread.
CONNECTIONS = 1_000
GRACE_SECONDS = 2
#: Time after which an idle connection is closed. Longer than the idle timeout of reverse proxies: otherwise a proxy
#: could send a request over a connection that the server is closing.
KEEPALIVE_SECONDS = 75


def run(settings: ConnectedSettings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises `PortError` if this process cannot listen on the address, and `PreflightError` if Redis fails a preflight
    check.
    """
    ports.ensure_free(settings.host, settings.port, "EVENTPULSE_PORT")
    # Only Redis is checked, because ingest does not need PostgreSQL.
    preflight.ensure(preflight.check_redis(settings.redis_url, settings.max_redis_memory_percent))
    gunicorn.http.wsgi.SERVER = "EventPulse"  # the header `Server` must not reveal gunicorn
    try:
        _Server(settings).run()
    except SystemExit as end:  # raised by the parent process of gunicorn when it stops
        return end.code if isinstance(end.code, int) else 0
    return 0


class _Logger(gunicorn.glogging.Logger):  # type: ignore[misc] # gunicorn is untyped
    """Loggers of gunicorn without handlers of their own, so that their records go to the log of the application."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.addFilter(SamplingFilter())  # gunicorn logs each request that it cannot parse


class _Server(gunicorn.app.base.BaseApplication):  # type: ignore[misc] # gunicorn is untyped
    def __init__(self, settings: ConnectedSettings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"{ports.in_brackets(self.settings.host)}:{self.settings.port}",
            "workers": self.settings.api_workers,
            "worker_class": "api.gevent_worker.Worker",
            "worker_connections": CONNECTIONS,
            "keepalive": KEEPALIVE_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            # One socket for each worker: with a shared socket, one worker could accept all connections.
            "reuse_port": hasattr(socket, "SO_REUSEPORT"),
            "control_socket_disable": True,  # all installations of a user would share the control socket
            "logger_class": _Logger,
            "loglevel": "warning",  # the log event `api_ready` already reports the start
            "when_ready": self._ready,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def _ready(self, _arbiter: Any) -> None:
        log.info("api_ready", host=self.settings.host, port=self.settings.port, workers=self.settings.api_workers)

    def load(self) -> "falcon.App[falcon.Request, falcon.Response]":
        """Return the application. Each worker calls this after the fork: processes must not share connections."""
        from api.app import create_app

        return create_app(self.settings)

"""The HTTP API behind gunicorn: a parent that listens, and worker processes of many greenlets each."""

import socket
from typing import Any

import falcon
import gunicorn.app.base
import gunicorn.glogging
import gunicorn.http.wsgi
import structlog

from eventpulse import ports, preflight
from eventpulse.settings import ConnectedSettings

log = structlog.get_logger()

#: Requests at once in a worker: a slow client costs one of them, and no thread.
CONNECTIONS = 1_000
GRACE_SECONDS = 2
KEEPALIVE_SECONDS = 75  # longer than what proxies in front keep a connection, so that they end it, never we


def run(settings: ConnectedSettings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises `PortError` when the address is taken, and `PreflightError` when Redis would lose events.
    """
    ports.ensure_free(settings.host, settings.port, "EVENTPULSE_PORT")
    preflight.ensure(preflight.check_redis(settings.redis_url))  # PostgreSQL has no part in taking events
    gunicorn.http.wsgi.SERVER = "EventPulse"  # the Server header: what runs beneath is nobody's business
    try:
        _Server(settings).run()
    except SystemExit as end:  # how gunicorn's parent leaves
        return end.code if isinstance(end.code, int) else 0
    return 0


class _Logs(gunicorn.glogging.Logger):  # type: ignore[misc] # gunicorn is untyped
    """gunicorn's loggers without handlers of their own: their records join ours."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True


class _Server(gunicorn.app.base.BaseApplication):  # type: ignore[misc] # gunicorn is untyped
    def __init__(self, settings: ConnectedSettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"{ports.in_brackets(self._settings.host)}:{self._settings.port}",
            "workers": self._settings.api_workers,
            "worker_class": "api.gevent_worker.Worker",
            "worker_connections": CONNECTIONS,
            "keepalive": KEEPALIVE_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            # The kernel spreads connections over the workers; with one shared socket, one of them can get them all.
            "reuse_port": hasattr(socket, "SO_REUSEPORT"),
            "control_socket_disable": True,  # it would be made in the home folder, one for all
            "logger_class": _Logs,
            "loglevel": "warning",  # what it does well goes without saying; we say when the API is ready
            "when_ready": self._ready,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def _ready(self, _arbiter: Any) -> None:
        log.info("api_ready", host=self._settings.host, port=self._settings.port, workers=self._settings.api_workers)

    def load(self) -> "falcon.App[falcon.Request, falcon.Response]":
        """The application, made in each worker after the fork: connections must not be shared."""
        from api.app import create_app

        return create_app(self._settings)

"""Servers of the API in separate processes, and settings for an API in the test process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from eventpulse.settings import ConnectedSettings, Settings
from support.waiting import until

#: URL of a PostgreSQL on a port on which no server listens. No response may contain the password of the URL.
UNREACHABLE_POSTGRES = "postgresql://reader:hunter2@127.0.0.1:1/nothing"


def api_settings(redis_url: str, database_url: str = UNREACHABLE_POSTGRES, **limits: int) -> ConnectedSettings:
    """Return the settings of an API. By default, PostgreSQL is unavailable."""
    return ConnectedSettings.of(Settings(**limits), redis_url, database_url)  # type: ignore[arg-type] # limits are integers


@dataclass(frozen=True)
class Server:
    """Running API."""

    process: psutil.Process
    port: int

    @property
    def worker(self) -> psutil.Process:
        """Return the only worker process of gunicorn."""
        (child,) = self.process.children()
        return child

    def connect(self) -> socket.socket:
        """Return a new connection to the API."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def serve(**environment: str) -> Iterator[Server]:
    """Run `eventpulse api` with one worker process and these environment variables during the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {"EVENTPULSE_PORT": str(port), "EVENTPULSE_API_WORKERS": "1", "LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "-m", "eventpulse", "api"], env={**os.environ, **own, **environment})

    def answers() -> bool:
        assert process.poll() is None, "the API does not start"
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, 30)
        yield Server(psutil.Process(process.pid), port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)

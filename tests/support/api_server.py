"""The API in processes of its own, as users run it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from support.waiting import until


@dataclass(frozen=True)
class Server:
    """A served API."""

    process: psutil.Process
    port: int

    @property
    def worker(self) -> psutil.Process:
        """The one process that answers requests."""
        (child,) = self.process.children()
        return child

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def serve(**environment: str) -> Iterator[Server]:
    """Run `eventpulse api` in one worker process until the block ends."""
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

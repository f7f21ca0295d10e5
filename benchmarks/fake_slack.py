"""Fake Slack for benchmarks: an HTTP server with a rate limit, which can be down or silent."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Accepted(NamedTuple):
    """Accepted message: the time of the response on the monotonic clock, and the text of the message."""

    at: float
    text: str


class FakeSlack:
    """Server on a free port of 127.0.0.1, in a separate thread.

    `per_second`: accepted messages per second; further messages get 429 with `Retry-After: 1`. None: no limit.
    `unavailable_headers`: None, or the headers of the responses with the status 503.
    `is_silent`: whether the server sends no response.
    """

    def __init__(self, per_second: float | None = None, *, is_silent: bool = False) -> None:
        self.per_second = per_second
        self.is_silent = is_silent
        self.unavailable_headers: str | None = None
        self.accepted: list[Accepted] = []
        self.rejected = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
                body = await reader.readexactly(length)
                if self.is_silent:
                    await asyncio.sleep(3600)
                writer.write(self._respond(json.loads(body)["text"]))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    def _respond(self, text: str) -> bytes:
        if self.unavailable_headers is not None:
            self.rejected += 1
            return _response("503 Service Unavailable", "", self.unavailable_headers)
        now = time.monotonic()
        if self.per_second and self.accepted and now - self.accepted[-1].at < 1 / self.per_second:
            self.rejected += 1
            return _response("429 Too Many Requests", "rate_limited", "Retry-After: 1\r\n")
        self.accepted.append(Accepted(now, text))
        return _response("200 OK", "ok", "")

    async def _stop(self) -> None:
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._loop.stop()

    @contextmanager
    def running(self) -> Iterator["FakeSlack"]:
        """Run the server during the block."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/services/T0/B0/fake"
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            server.close()
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
            thread.join()


def _response(status: str, body: str, headers: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode()

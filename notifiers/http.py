"""HTTP client for the servers of channels, with limits on time and size.

The URL of a webhook is a secret. No exception and no log record of this module contains it.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec

from notifiers.base import TryAgain, Undeliverable

T = TypeVar("T")
#: Maximum duration of a whole request: connecting, sending and reading.
TOTAL_SECONDS = 10.0
#: Maximum delay that a channel can request.
MAX_RETRY_AFTER_SECONDS = 3600.0
#: Maximum number of bytes of a response body that are read.
MAX_RESPONSE_BYTES = 1000
RESOLVER_THREADS = 64
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "eventpulse",
    # No compression: a few compressed bytes could expand to a huge body.
    "Accept-Encoding": "identity",
}
REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 408, 429


class Response(NamedTuple):
    """Response of a channel's server. `text` is the beginning of the body; names of headers are case-insensitive."""

    status: int
    headers: httpx.Headers
    text: str


class HttpClient:
    """HTTP client that posts messages over pooled connections; several threads can use it.

    The requests run on an event loop in a separate thread, because asyncio can limit the duration of a whole request.
    The timeouts of blocking sockets apply to each read, so a server that sends single bytes could occupy a thread
    without limit. The loop starts with the first request, because a thread does not survive a fork.
    """

    def __init__(self, total_seconds: float = TOTAL_SECONDS) -> None:
        self._total_seconds = total_seconds
        self._start_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the event loop, and return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())

    def post(self, url: str, message: Mapping[str, Any]) -> Response:
        """Post the message, as `post_async` does, and wait for the response."""
        return self.submit(self.post_async(url, message)).result()

    async def post_async(self, url: str, message: Mapping[str, Any]) -> Response:
        """Post the message as JSON and return the 2xx response. Must run on the event loop of this client.

        Raises `TryAgain` on 408, 429, 5xx, timeouts and broken connections, and `Undeliverable` on any other status or
        an invalid URL. Redirects are not followed: they would send the alert to a server that no administrator has
        configured.
        """
        content = msgspec.json.encode(message)
        try:
            response = await self._post(url, content)
        except TimeoutError:
            raise TryAgain(f"no response within {self._total_seconds:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError, OverflowError):
            raise Undeliverable("the URL of the channel is invalid") from None
        except httpx.ConnectError:
            raise TryAgain("cannot connect to the server of the channel") from None
        except httpx.TransportError:
            raise TryAgain("the connection closed before the response was complete") from None
        if 200 <= response.status < 300:
            return response
        raise failure(response, datetime.now(UTC))

    async def _post(self, url: str, content: bytes) -> Response:
        async with (
            asyncio.timeout(self._total_seconds),
            self._client.stream("POST", url, content=content, headers=HEADERS) as response,
        ):
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= MAX_RESPONSE_BYTES:
                    break
            text = body[:MAX_RESPONSE_BYTES].decode("utf-8", "replace")
            return Response(response.status_code, response.headers, text)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._start_lock:
            if self._loop is None:
                logging.getLogger("httpx").setLevel(logging.WARNING)  # at level INFO, httpx logs every URL
                # No limit of connections: requests that wait for unresponsive servers would delay all others.
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
                self._client = httpx.AsyncClient(timeout=None, limits=limits)  # noqa: S113 - _post limits the request
                self._loop = asyncio.new_event_loop()
                # asyncio resolves names in threads; a slow name server must not occupy all of them.
                self._loop.set_default_executor(ThreadPoolExecutor(RESOLVER_THREADS, "notifiers-resolver"))
                threading.Thread(target=self._loop.run_forever, name="notifiers-http", daemon=True).start()
            return self._loop


def failure(response: Response, now: datetime) -> TryAgain | Undeliverable:
    """Return the exception for a response other than 2xx."""
    reason = f"the server of the channel responded with status {response.status}"
    # Only an error code such as `no_service` of Slack is quoted: other texts can contain the URL.
    if re.fullmatch(r"[a-z]+(_[a-z]+)+", response.text.strip()):
        reason += f" ({response.text.strip()})"
    if response.status in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS) or response.status >= 500:
        after_seconds = retry_after_seconds(response.headers.get("Retry-After"), now)
        return TryAgain(reason, after_seconds, is_throttled=response.status == TOO_MANY_REQUESTS)
    return Undeliverable(reason)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Return the delay of a Retry-After header, clamped to 0 to 3,600 seconds; None if it is missing or invalid.

    The header contains seconds or a date (RFC 9110, section 10.2.3).
    """
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", header.strip()):
        seconds = float(header)
    else:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

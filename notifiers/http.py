"""One POST to a channel's server: bounded in time and size, and its failures told apart.

Nothing that is raised or logged here holds the URL: that of a webhook is its password.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import msgspec

from notifiers.base import TryAgain, Undeliverable

#: Connecting, sending and reading together.
TOTAL_SECONDS = 10.0
#: A channel may ask for patience, but not for ever.
MAX_RETRY_AFTER_SECONDS = 3600.0
#: All that is read of an answer.
MAX_ANSWER_BYTES = 1000
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "eventpulse",
    "Accept-Encoding": "identity",  # the answer is read as it comes: a few compressed bytes cannot become many
}
REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 408, 429


class Response(NamedTuple):
    """Response of a channel's server: `text` is the beginning of its body; names of headers are case-insensitive."""

    status: int
    headers: httpx.Headers
    text: str


class Http:
    """Posts from any thread, over pooled connections.

    The requests run on an event loop of their own, because only there can a request be bounded as a whole: the
    timeouts of blocking sockets are per read, so that a server dripping single bytes would hold a thread for ever.
    The loop starts with the first post, so after any fork.
    """

    def __init__(self, total_seconds: float = TOTAL_SECONDS) -> None:
        self._total_seconds = total_seconds
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient

    def post(self, url: str, message: Mapping[str, Any]) -> Response:
        """Post the message as JSON and return the 2xx response.

        Raises `TryAgain` on 408, 429, 5xx, timeouts and broken connections, `Undeliverable` on any other status:
        redirects are not followed, for the channel would be another than the one that was set up.
        """
        content = msgspec.json.encode(message)
        try:
            answer = asyncio.run_coroutine_threadsafe(self._post(url, content), self._started()).result()
        except TimeoutError:
            raise TryAgain(f"no answer within {self._total_seconds:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError, OverflowError):
            raise Undeliverable("the URL of the channel is not one that can be reached") from None
        except httpx.ConnectError:
            raise TryAgain("cannot connect to the server of the channel") from None
        except httpx.TransportError:
            raise TryAgain("the connection broke before the answer was complete") from None
        if 200 <= answer.status < 300:
            return answer
        raise refusal(answer, datetime.now(UTC))

    async def _post(self, url: str, content: bytes) -> Response:
        async with (
            asyncio.timeout(self._total_seconds),
            self._client.stream("POST", url, content=content, headers=HEADERS) as response,
        ):
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= MAX_ANSWER_BYTES:
                    break
            text = body[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
            return Response(response.status_code, response.headers, text)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                logging.getLogger("httpx").setLevel(logging.WARNING)  # below that it logs every URL
                self._client = httpx.AsyncClient(timeout=None)  # noqa: S113 — bounded as a whole in _post
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="notifiers-http", daemon=True).start()
            return self._loop


def refusal(answer: Response, now: datetime) -> TryAgain | Undeliverable:
    """What an answer other than 2xx means."""
    reason = f"the channel answered {answer.status}"
    # Slack explains itself in one word (no_service); what else servers send may repeat the URL.
    if re.fullmatch(r"[a-z]+(_[a-z]+)+", answer.text.strip()):
        reason += f" {answer.text.strip()}"
    if answer.status in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS) or answer.status >= 500:
        return TryAgain(reason, retry_after_seconds(answer.headers.get("Retry-After"), now))
    return Undeliverable(reason)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """What Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3): 0 to 3,600 seconds; None: nothing."""
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

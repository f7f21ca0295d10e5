"""Open connections of one API process: how many there may be, and how long a client may take to read a response."""

import errno
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SHUT_RD, SHUT_RDWR
from typing import Any

import gevent
from gevent.socket import socket

#: Maximum time in seconds without progress while a response is sent to a client.
SEND_SECONDS = 10.0
#: Maximum size in bytes of all responses that clients have not read. Above it, the connection whose client has read
#: nothing for the longest time is closed.
MAX_UNSENT_BYTES = 64 * 1024 * 1024
#: Number of reads of one request after which other requests run. gevent does not switch to another request if a read
#: does not wait for data: a body of very small chunks would use the processor for seconds.
READS_PER_TURN = 4


class ClientSocket(socket):
    """Connection to a client, with a time limit for sending.

    idle: the wait for the next request, while there is one.
    requests: number of requests for which the server has waited so far.
    group: the connections of the same address; None if `Connections` does not count this connection.
    """

    def __init__(self, accepted: socket, address: str, unsent: "UnsentResponses") -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self._unsent = unsent
        self.address = address
        self.idle: Any = None
        self.requests = 0
        self.group: _Group | None = None
        self._reads = 0

    def start_reading(self, idle: Any) -> None:
        """Begin to read a request. The second read calls `idle.header_started()`, unless `idle` is reset before."""
        self.idle = idle
        self.requests += 1
        self._reads = 0

    def recv(self, *args: Any) -> bytes:
        self._reads += 1
        if self._reads == 2 and self.idle is not None:  # the first read did not return the whole header
            self.idle.header_started()
        elif not self._reads % READS_PER_TURN:
            gevent.sleep(0)
        return super().recv(*args)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all bytes.

        Raises `BrokenPipeError`, which gunicorn does not log, if the client reads nothing for `SEND_SECONDS`.
        """
        previous = self.gettimeout()
        self.settimeout(SEND_SECONDS)
        try:
            rest = memoryview(data)[self.send(data, flags) :]
            while rest:
                self._unsent.add(self, len(data))
                rest = rest[self.send(rest, flags) :]
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, f"the client read nothing for {SEND_SECONDS:g} s") from error
        finally:
            self._unsent.remove(self)
            self.settimeout(previous)

    def abort(self) -> None:
        """Let all reads and writes fail."""
        with suppress(OSError):
            self._raw.shutdown(SHUT_RDWR)

    @property
    def _raw(self) -> Any:
        """Socket below the socket of gevent, whose `shutdown` would raise an error in a waiting greenlet."""
        return self._sock  # type: ignore[attr-defined] # missing in types-gevent

    def end_reading(self) -> None:
        """Let reads return the bytes that have already arrived, then the end of the stream.

        A request that has arrived is still answered.
        """
        with suppress(OSError):
            self._raw.shutdown(SHUT_RD)


class UnsentResponses:
    """Responses of a process that clients have not read completely, in the order of the last progress."""

    def __init__(self, max_bytes: int = MAX_UNSENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._sizes: dict[ClientSocket, int] = {}

    def add(self, client: ClientSocket, size: int) -> None:
        """Add the response to `client`, or record progress; close other connections if the sum is too large."""
        self.remove(client)
        while self._sizes and self._bytes + size > self._max_bytes:
            oldest = next(iter(self._sizes))
            self.remove(oldest)
            oldest.abort()
        self._sizes[client] = size
        self._bytes += size

    def remove(self, client: ClientSocket) -> None:
        """Remove the response to `client`, if there is one."""
        self._bytes -= self._sizes.pop(client, 0)


@dataclass(eq=False, slots=True)
class _Group:
    """Connections of one address: the number of open ones, and the idle ones in the order in which they became idle."""

    open: int = 0
    idle: dict[ClientSocket, None] = field(default_factory=dict)


class Connections:
    """Open connections of a process. At a limit, the connection that has been idle for the longest time is closed.

    A connection is idle from the end of a request until the header of the next one is complete.
    """

    def __init__(self, max_open: int, max_per_address: int) -> None:
        """Set the limits; `max_per_address` 0 means no limit."""
        self._max_open = max_open
        self._max_per_address = max_per_address
        self._open = 0
        self._idle: dict[ClientSocket, None] = {}
        self._groups: dict[str, _Group] = {}

    def add(self, client: ClientSocket) -> bool:
        """Count a new connection, and close an idle one if a limit is exceeded.

        Return False if its address has too many connections, of which none is idle; the connection is not counted then.
        """
        group = self._groups.setdefault(client.address, _Group())
        full = bool(self._max_per_address) and group.open >= self._max_per_address
        if full and not self._close_oldest(group.idle):
            return False
        # Closing the last connection of the address removes its group.
        client.group = self._groups.setdefault(client.address, group)
        group.open += 1
        self._open += 1
        if self._open > self._max_open:
            self._close_oldest(self._idle)
        return True

    def remove(self, client: ClientSocket) -> None:
        """Stop counting a connection. Does nothing if the connection is not counted."""
        self.mark_busy(client)
        group, client.group = client.group, None
        if group is None:
            return
        self._open -= 1
        group.open -= 1
        if not group.open:
            del self._groups[client.address]

    def mark_idle(self, client: ClientSocket) -> None:
        if client.group is not None:
            self._idle[client] = client.group.idle[client] = None

    def mark_busy(self, client: ClientSocket) -> None:
        if client.group is not None:
            self._idle.pop(client, None)
            client.group.idle.pop(client, None)

    def close_idle(self) -> None:
        """Close all idle connections."""
        while self._close_oldest(self._idle):
            pass

    def _close_oldest(self, idle: dict[ClientSocket, None]) -> bool:
        """Close the first connection of `idle`; return whether there was one."""
        client = next(iter(idle), None)
        if client is None:
            return False
        self.remove(client)
        client.end_reading()
        return True

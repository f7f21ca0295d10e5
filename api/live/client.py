"""WebSocket client of the live gateway, with its queue of frames."""

import asyncio
import contextlib

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

#: Maximum duration of the close handshake; after that the connection is aborted.
CLOSE_SECONDS = 2.0

log = structlog.get_logger()


class LiveClient:
    """Client with a bounded queue. A client that does not read its frames is disconnected and delays no other client.

    max_frames: maximum number of frames in the queue.
    stall_seconds: maximum time to send one frame.
    """

    def __init__(self, connection: ServerConnection, max_frames: int, stall_seconds: float) -> None:
        self._connection = connection
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(max_frames)
        self._stall_seconds = stall_seconds
        self._too_slow = asyncio.Event()

    def enqueue(self, frame: bytes) -> None:
        """Queue a frame without waiting; disconnect the client if its queue is full."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self._too_slow.set()

    async def serve(self) -> None:
        """Send the frames until the client disconnects or is too slow."""
        tasks = [asyncio.create_task(work) for work in (self._send(), self._receive(), self._too_slow.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._too_slow.is_set():
                await self._disconnect()
        finally:
            for task in tasks:
                task.cancel()

    def abort(self) -> None:
        """Close the connection without a handshake."""
        self._connection.transport.abort()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self._frames.get()
                try:
                    async with asyncio.timeout(self._stall_seconds):
                        await self._connection.send(frame, text=True)
                except TimeoutError:
                    # The socket buffers are full: a ping could not be sent either, so its timeout would not start.
                    self._too_slow.set()
                    return

    async def _receive(self) -> None:
        """Read and discard messages: unread messages would stop the reading of pongs and close frames."""
        with contextlib.suppress(ConnectionClosed):
            async for _ in self._connection:
                pass

    async def _disconnect(self) -> None:
        log.info("live_client_disconnected", reason="too slow")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close(CloseCode.TRY_AGAIN_LATER, "client too slow to receive frames")
        self.abort()

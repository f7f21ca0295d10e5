"""One open WebSocket of the live gateway, and what waits to be sent to it."""

import asyncio
import contextlib

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

#: For a close handshake; after it the connection is cut.
CLOSE_SECONDS = 2.0

log = structlog.get_logger()


class Watcher:
    """Takes frames without ever waiting; whoever does not read them is dropped, and so slows nobody else."""

    def __init__(self, connection: ServerConnection, max_frames: int, stall_seconds: float) -> None:
        self._connection = connection
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(max_frames)
        self._stall_seconds = stall_seconds
        self._too_slow = asyncio.Event()

    def offer(self, frame: bytes) -> None:
        """Queue a frame, never waiting; a watcher whose queue is full is dropped."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self._too_slow.set()

    async def serve(self) -> None:
        """Send the frames, until the peer leaves or turns out to be too slow."""
        tasks = [asyncio.create_task(work) for work in (self._send(), self._ignore(), self._too_slow.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._too_slow.is_set():
                await self._drop()
        finally:
            for task in tasks:
                task.cancel()

    def cut(self) -> None:
        self._connection.transport.abort()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self._frames.get()
                try:
                    async with asyncio.timeout(self._stall_seconds):
                        await self._connection.send(frame, text=True)
                except TimeoutError:
                    # Its buffers are full, so that not even a ping could be sent to find that out.
                    self._too_slow.set()
                    return

    async def _ignore(self) -> None:
        """Read what the peer says, since among it are its pongs and its goodbye."""
        with contextlib.suppress(ConnectionClosed):
            async for _ in self._connection:
                pass

    async def _drop(self) -> None:
        log.info("watcher_dropped", reason="too slow")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close(CloseCode.TRY_AGAIN_LATER, "too slow: frames were waiting")
        self.cut()

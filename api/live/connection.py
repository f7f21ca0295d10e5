"""WebSocket connection with a limit of the frames that its client sends."""

from typing import Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame

from eventpulse.log_sampler import LogSampler

#: Maximum number of frames from a client in `PERIOD_SECONDS`. A client needs to send only pongs, one in 30 s.
MAX_FRAMES = 500
PERIOD_SECONDS = 10.0

log = structlog.get_logger()


class LimitedConnection(ServerConnection):
    """Connection that is aborted if its client sends too many frames: the gateway answers each ping with a pong."""

    _lines = LogSampler()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._frames = 0
        self._period_end = 0.0

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame):
            self._count()
        super().process_event(event)

    def _count(self) -> None:
        now = self.loop.time()
        if now >= self._period_end:
            self._frames, self._period_end = 0, now + PERIOD_SECONDS
        self._frames += 1
        if self._frames == MAX_FRAMES + 1:
            self.transport.abort()
            if self._lines.admits(of="live_client_disconnected"):
                log.info("live_client_disconnected", reason="too many frames")

"""EventPulse with a clock that is wrong: `time.time` and `datetime.now` are off, the monotonic clock is not."""

import runpy
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

#: A process with a wrong clock that gets this signal jumps, by as many seconds as it was told at its start.
JUMP = signal.SIGUSR1


def command(seconds: float, jump_seconds: float = 0.0) -> list[str]:
    """What runs `eventpulse` `seconds` ahead of the true time (behind it: negative), in the place of its own command.

    On each `JUMP` the clock moves on by `jump_seconds` more. A worker does not start more than 5 s away from Redis.
    """
    return [sys.executable, "-P", str(Path(__file__).resolve()), str(seconds), str(jump_seconds)]


def main() -> None:
    """Set the clock, and only then import what tells the time by it."""
    import time_machine

    seconds, jump_seconds = map(float, sys.argv[1:3])
    sys.argv = ["eventpulse", *sys.argv[3:]]
    traveller = time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True).start()
    signal.signal(JUMP, lambda *_: traveller.shift(jump_seconds))
    runpy.run_module("eventpulse", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

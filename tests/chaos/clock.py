"""EventPulse with a wrong clock: `time.time` and `datetime.now` are shifted, but not the monotonic clock."""

import runpy
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

#: Signal that shifts the clock of the process by the `jump_seconds` of its command line.
JUMP = signal.SIGUSR1


def command(seconds: float, jump_seconds: float = 0.0) -> list[str]:
    """Return a command that runs `eventpulse` with a clock `seconds` ahead, or behind if `seconds` is negative.

    The arguments of `eventpulse` must be appended. Each `JUMP` signal adds `jump_seconds`. A worker does not start if
    its clock and the clock of Redis differ by more than 5 s.
    """
    return [sys.executable, "-P", str(Path(__file__).resolve()), str(seconds), str(jump_seconds)]


def main() -> None:
    """Shift the clock, then run `eventpulse`: its modules may read the clock when they are imported."""
    import time_machine

    seconds, jump_seconds = map(float, sys.argv[1:3])
    sys.argv = ["eventpulse", *sys.argv[3:]]
    traveller = time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True).start()
    signal.signal(JUMP, lambda *_: traveller.shift(jump_seconds))
    runpy.run_module("eventpulse", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

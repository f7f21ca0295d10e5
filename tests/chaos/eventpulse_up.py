"""`eventpulse up` with its embedded servers as a system under test."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from chaos.context import STARTING_SECONDS, Context, Fault, Size
from chaos.eventpulse_system import EventPulseSystem, stop_server_process
from chaos.recovery_tracker import Injection
from chaos.webhook import webhook
from support.processes import Running, up
from support.waiting import until

from eventpulse.local import embedded

RESTART_WITHIN_SECONDS = 30.0


class EventPulseUp(EventPulseSystem):
    """Running `eventpulse up`, which supervises its own processes and servers. See `System`."""

    running: Running
    #: Callbacks that stop every `eventpulse up` of this system.
    undo: ExitStack
    starts = 0

    def start(self) -> None:
        """Start `eventpulse up`; retry while earlier processes are still ending, at most `RESTART_WITHIN_SECONDS`."""
        self.starts += 1

        def started() -> bool:
            try:
                own = self.settings | {"LOG_LEVEL": "warning"}
                self.running = self.undo.enter_context(up(self.folder, f"up-{self.starts}", **own))
            except AssertionError:
                return False
            return True

        until(started, RESTART_WITHIN_SECONDS)

    def tail(self) -> str:
        return self.running.printed()[-6_000:]


@contextmanager
def eventpulse_up(**settings: str) -> Iterator[EventPulseUp]:
    """Start `eventpulse up` in a temporary folder, and yield the system when it is ready.

    The end of the block stops all processes and deletes all files.
    """
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
        # If this process is root, PostgreSQL runs as another user, which could not enter a private folder.
        folder.chmod(0o755)
        redis = embedded.start_redis(folder / "data" / "redis")
        undo.callback(stop_server_process, redis)
        postgres = embedded.start_postgres(folder / "data" / "postgres")
        undo.callback(stop_server_process, postgres)
        system = EventPulseUp(redis, postgres, folder, settings)
        system.webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        system.undo = undo.enter_context(ExitStack())
        undo.callback(system.state.close)
        system.start()
        system.prepare()
        yield system


def kill_and_restart(context: Context) -> None:
    system: EventPulseUp = context.system

    def kill() -> Injection:
        system.running.process.kill()
        system.running.process.wait()
        injection = context.recoveries.record_injection("SIGKILL of `eventpulse up`")
        system.start()
        context.await_acceptance()
        return injection

    for _ in range(context.size.injections):
        context.pause()
        context.await_recovery(kill(), 60)
    context.notes["processes"] = len(psutil.Process(system.running.process.pid).children())


FAULTS = [
    Fault(
        "up-sigkill",
        "`eventpulse up` is killed and restarted.",
        kill_and_restart,
        Size(3, 5_000),
        Size(1, 2_000),
        systems=("eventpulse",),
        system_factory=eventpulse_up,
        answers_within=STARTING_SECONDS,
        recovers_within=30,
    ),
]

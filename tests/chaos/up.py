"""`eventpulse up` as a plant, with its embedded servers: what a user has who starts it in a terminal."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from chaos.context import STARTING_SECONDS, Fault, Scene, Size
from chaos.ours import Ours, put_away
from chaos.recovery import Blow
from chaos.webhooks import webhook
from support.processes import Running, up
from support.waiting import until

from eventpulse.local import embedded

RESTARTS_SECONDS = 30.0


class Up(Ours):
    """A running `eventpulse up`: it keeps its processes and its servers itself."""

    running: Running
    #: What ends every `up` that was started here.
    undo: ExitStack
    starts = 0

    def start(self) -> None:
        """Start it, again and again until it does: what is left of the one before may take a moment to go."""
        self.starts += 1

        def started() -> bool:
            try:
                own = self.settings | {"LOG_LEVEL": "warning"}
                self.running = self.undo.enter_context(up(self.folder, f"up-{self.starts}", **own))
            except AssertionError:
                return False
            return True

        until(started, RESTARTS_SECONDS)

    def tail(self) -> str:
        return self.running.printed()[-6_000:]


@contextmanager
def eventpulse_up(**settings: str) -> Iterator[Up]:
    """`eventpulse up` in a folder of its own, ready, with its rules in force; nothing is left of it afterwards."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="battery-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # as root, PostgreSQL runs as another user
        redis = embedded.start_redis(folder / "data" / "redis")
        undo.callback(put_away, redis)
        postgres = embedded.start_postgres(folder / "data" / "postgres")
        undo.callback(put_away, postgres)
        plant = Up(redis, postgres, folder, settings)
        plant.webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        plant.undo = undo.enter_context(ExitStack())
        undo.callback(plant.observed.close)
        plant.start()
        plant.prepare()
        yield plant


def kill_all_and_start_again(scene: Scene) -> None:
    plant: Up = scene.plant

    def blow() -> Blow:
        plant.running.process.kill()
        plant.running.process.wait()
        struck = scene.recoveries.strike("SIGKILL of `eventpulse up`")
        plant.start()
        scene.await_acceptance()
        return struck

    for _ in range(scene.size.times):
        scene.pause()
        scene.await_recovery(blow(), 60)
    scene.notes["processes"] = len(psutil.Process(plant.running.process.pid).children())


FAULTS = [
    Fault(
        "up-sigkill",
        "`eventpulse up` is killed, and started again.",
        kill_all_and_start_again,
        Size(3, 5_000),
        Size(1, 2_000),
        plants=("ours",),
        makes=eventpulse_up,
        answers_within=STARTING_SECONDS,
        recovers_within=30,
    ),
]

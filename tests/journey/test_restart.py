"""`eventpulse up` starts at the first try after everything was killed, and no accepted event is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from support.processes import environ, is_alive, up
from support.waiting import until

ROOT = Path(__file__).parents[2]


def test_the_first_start_after_everything_was_killed_succeeds_and_accepted_events_are_stored() -> None:
    """Three rounds of the benchmark; in the second one the killed servers stay zombies."""
    script = [sys.executable, "benchmarks/restart_rounds.py", "--rounds", "3"]
    ended = subprocess.run(script, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 of 3 first starts succeeded" in ended.stdout


def test_the_next_up_starts_while_the_processes_of_a_killed_supervisor_are_still_stopping(tmp_path: Path) -> None:
    with up(tmp_path, "first") as first:
        servers = [psutil.Process(first.pid_of(unit)) for unit in ("redis", "postgres")]
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        with up(tmp_path, "second", **first.settings) as second:
            assert second.interrupt() == 0
        until(lambda: not any(is_alive(server) for server in servers))

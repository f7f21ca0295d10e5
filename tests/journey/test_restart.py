"""Tests of the first start of `eventpulse up` after its processes were killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
from support.processes import environ, is_alive, up
from support.waiting import until

ROOT = Path(__file__).parents[2]


def test_the_first_start_after_everything_was_killed_succeeds_and_accepted_events_are_stored() -> None:
    """Run two rounds of a benchmark; in the second round the killed processes stay zombies."""
    script = [sys.executable, "benchmarks/restart_rounds.py", "--rounds", "2"]
    ended = subprocess.run(script, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 first starts succeeded" in ended.stdout


def test_the_next_up_waits_for_the_port_of_an_api_whose_supervisor_was_killed(tmp_path: Path) -> None:
    """The API is suspended for two seconds, so that its port is still in use when the next `up` starts."""
    with up(tmp_path, "first") as first:
        servers = [psutil.Process(first.pid_of(unit)) for unit in ("redis", "postgres")]
        api = psutil.Process(first.pid_of("api"))
        for process in (api, *api.children()):
            process.suspend()
            threading.Timer(2, process.resume).start()
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        with up(tmp_path, "second", **first.settings) as second:
            assert second.interrupt() == 0
        until(lambda: not any(is_alive(server) for server in servers))

"""Tests of the supervisor: restarts of processes, their output, and the stop of all processes."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import until

from eventpulse.local import supervisor as supervision
from eventpulse.local.child import Child
from eventpulse.local.process_output import ProcessOutput
from eventpulse.local.supervisor import Phase, Supervisor, Unit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def original_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(supervision, "FIRST_BACKOFF_SECONDS", 0.02)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def output() -> ProcessOutput:
    return ProcessOutput(labelled=True, coloured=False)


def unit(name: str, script: str, output: ProcessOutput) -> Unit:
    child = Child(
        name, ["/bin/sh", "-c", script], dict(os.environ), lambda stream, text: output.line(name, stream, text)
    )
    return Unit(name, child)


def tick_until(supervisor: Supervisor, path: Path, lines: int) -> None:
    def enough() -> bool:
        supervisor.wait()
        return path.exists() and len(path.read_text().splitlines()) >= lines

    until(enough)


def test_a_process_that_exits_is_restarted_each_time(tmp_path: Path, output: ProcessOutput) -> None:
    starts = tmp_path / "starts"
    supervisor = Supervisor([Phase([unit("worker", f"echo x >>{starts}; exit 3", output)], 1)], output)
    supervisor.start()
    tick_until(supervisor, starts, 4)
    assert supervisor.stop() == 0


def test_every_change_of_state_is_logged_in_one_line(
    tmp_path: Path, output: ProcessOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = tmp_path / "starts"
    supervisor = Supervisor([Phase([unit("worker", f"echo x >>{starts}; exit 3", output)], 1)], output)
    supervisor.start()
    tick_until(supervisor, starts, 2)
    supervisor.stop()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("worker    │ started (process ")
    assert lines[1].startswith("worker    │ exited with code 3; restarting in 0.0 s")
    assert lines[2].startswith("worker    │ started (process ")


def test_each_output_line_of_a_process_keeps_its_stream_and_gets_the_process_name(
    tmp_path: Path, output: ProcessOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    done = tmp_path / "done"
    writer = unit("writer", f"echo data; echo message >&2; printf 'no newline'; touch {done}; sleep 60", output)
    supervisor = Supervisor([Phase([writer], 1)], output)
    supervisor.start()
    until(done.exists)
    supervisor.stop()
    out, err = capsys.readouterr()
    assert out.splitlines() == ["writer    │ data", "writer    │ no newline"]
    assert "writer    │ message" in err.splitlines()


def test_json_lines_are_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    ProcessOutput(labelled=False, coloured=True).line("api", sys.stderr, '{"event":"x"}')
    assert capsys.readouterr().err == '{"event":"x"}\n'


def test_each_phase_stops_after_the_phase_before_it(tmp_path: Path, output: ProcessOutput) -> None:
    order = tmp_path / "order"
    ready = tmp_path / "ready"

    def stopping_after(name: str, seconds: float) -> Unit:
        on_term = f"sleep {seconds}; echo {name} >>{order}; exit"
        return unit(name, f"trap '{on_term}' TERM; echo x >>{ready}; while :; do sleep 0.01; done", output)

    phases = [
        Phase([stopping_after("api", 0.2)], 2),
        Phase([stopping_after("worker", 0.1)], 2),
        Phase([stopping_after("redis", 0)], 2),
    ]
    supervisor = Supervisor(phases, output)
    supervisor.start()
    tick_until(supervisor, ready, 3)
    assert supervisor.stop() == 0
    assert order.read_text().split() == ["api", "worker", "redis"]


def test_a_process_that_does_not_stop_in_time_is_killed_with_its_children(
    tmp_path: Path, output: ProcessOutput
) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 60 & echo $! >>{pids}; echo $$ >>{pids}; while :; do sleep 0.01; done"
    supervisor = Supervisor([Phase([unit("stubborn", script, output)], grace_seconds=0.1)], output)
    supervisor.start()
    tick_until(supervisor, pids, 2)
    began = time.monotonic()
    assert supervisor.stop() == 0
    assert time.monotonic() - began < 2
    pids_of_session = [int(pid) for pid in pids.read_text().split()]
    until(
        lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids_of_session)
    )


def test_the_first_signal_requests_a_stop_and_the_second_signal_kills_the_processes(
    tmp_path: Path, output: ProcessOutput
) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; echo x >>{ready}; while :; do sleep 0.01; done"
    supervisor = Supervisor([Phase([unit("stubborn", script, output)], grace_seconds=60)], output)
    supervisor.start()
    tick_until(supervisor, ready, 1)
    assert not supervisor.stopping
    os.kill(os.getpid(), signal.SIGINT)
    assert supervisor.stopping
    os.kill(os.getpid(), signal.SIGINT)
    assert supervisor.stop() == 130


def test_a_process_that_exits_during_shutdown_is_not_restarted(tmp_path: Path, output: ProcessOutput) -> None:
    starts = tmp_path / "starts"
    supervisor = Supervisor([Phase([unit("worker", f"echo x >>{starts}; exit 1", output)], 1)], output)
    os.kill(os.getpid(), signal.SIGTERM)
    supervisor.start()
    until(starts.exists)
    for _ in range(5):
        supervisor.wait()
    supervisor.stop()
    assert starts.read_text() == "x\n"

"""Tests of the start of an embedded server after a crash, and while a server with the same data still runs."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from support import clusters
from support.waiting import until

from eventpulse.local import daemon, embedded, process_table
from eventpulse.local.daemon import Daemon, EmbeddedServerError, ServerStartingError

PR_SET_CHILD_SUBREAPER = 36

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
pytestmark = only_on_linux

START_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from eventpulse.local import embedded
print(getattr(embedded, sys.argv[1])(Path(sys.argv[2])).pid)
"""


@pytest.fixture
def servers() -> Iterator[list[Daemon]]:
    """Return an empty list to which the test adds servers; stop these servers after the test."""
    started: list[Daemon] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def orphans_stay_zombies() -> Iterator[None]:
    """Keep orphaned processes as zombies of this process until the end of the test, as in some containers."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(child.pid, 0)


def start_elsewhere(start: Callable[[Path], Daemon], data: Path) -> psutil.Process:
    """Start a server in a child process that exits, so that the server becomes an orphan; return the server process."""
    if start is clusters.start_postgres:
        clusters.place(data)
    command = [sys.executable, "-c", START_IN_ANOTHER_PROCESS, start.__name__, str(data)]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return psutil.Process(int(written.split()[-1]))


@pytest.mark.parametrize("start", [embedded.start_redis, clusters.start_postgres])
def test_a_server_starts_although_the_killed_one_is_a_zombie(
    start: Callable[[Path], Daemon], tmp_path: Path, servers: list[Daemon], orphans_stay_zombies: None
) -> None:
    killed = start_elsewhere(start, tmp_path / "data")
    killed.kill()
    until(lambda: killed.status() == psutil.STATUS_ZOMBIE)
    servers.append(start(tmp_path / "data"))
    assert servers[0].pid != killed.pid


def test_a_found_postgres_that_becomes_a_zombie_is_started_again_by_the_supervisor(
    tmp_path: Path, servers: list[Daemon], orphans_stay_zombies: None
) -> None:
    killed = start_elsewhere(clusters.start_postgres, tmp_path / "data")
    server = clusters.start_postgres(tmp_path / "data")
    servers.append(server)
    assert server.pid == killed.pid
    killed.kill()
    until(lambda: server.exit_status() is not None and not process_table.servers_in(tmp_path / "data", "postgres"))
    server.spawn()
    until(lambda: not is_starting(server) and server.find())
    assert server.exit_status() is None


def test_a_process_that_has_the_id_of_an_old_postgres_is_not_stopped(tmp_path: Path, servers: list[Daemon]) -> None:
    clusters.start_postgres(tmp_path / "data").stop()
    with subprocess.Popen(["sleep", "60"]) as unrelated:
        lines = [str(unrelated.pid), str(tmp_path / "data"), "1", "5432", str(tmp_path / "data"), "", "1 1", "ready"]
        for name in ("postmaster.pid", f"{embedded.POSTGRES_SOCKET}.lock"):
            (tmp_path / "data" / name).write_text("\n".join(lines))
        servers.append(clusters.start_postgres(tmp_path / "data"))
        assert unrelated.poll() is None
        unrelated.kill()


def test_a_process_that_has_the_id_of_a_found_server_is_not_stopped(tmp_path: Path) -> None:
    server = embedded.start_redis(tmp_path / "data")
    server.stop()
    with subprocess.Popen(["sleep", "60"]) as unrelated:
        found = Daemon(
            server.name,
            server.url,
            server.data,
            server.command,
            server.log,
            lambda: unrelated.pid,
            server.stop_signal,
            server.kill_signal,
        )
        assert found.find()
        assert found.exit_status() == 0
        found.stop()
        assert unrelated.poll() is None
        unrelated.kill()


def test_a_postgres_whose_backends_still_run_is_started_after_they_exit(tmp_path: Path, servers: list[Daemon]) -> None:
    killed = clusters.start_postgres(tmp_path / "data")
    connection = psycopg2.connect(killed.url)
    backend = psutil.Process(connection.info.backend_pid)
    backend.suspend()
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: killed.exit_status() is not None)
    threading.Timer(1.0, backend.resume).start()
    servers.append(clusters.start_postgres(tmp_path / "data"))
    until(lambda: not backend.is_running())
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=["immediate", "fast"])
def test_a_start_waits_for_a_postgres_that_is_shutting_down(
    number: signal.Signals, tmp_path: Path, servers: list[Daemon]
) -> None:
    stopping = clusters.start_postgres(tmp_path / "data")
    connection = psycopg2.connect(stopping.url)
    os.kill(stopping.pid, number)
    servers.append(clusters.start_postgres(tmp_path / "data"))
    assert servers[0].pid != stopping.pid
    connection.close()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can drop capabilities")
def test_root_without_ptrace_finds_the_postgres_of_another_user_by_its_arguments(
    tmp_path: Path, servers: list[Daemon]
) -> None:
    servers.append(clusters.start_postgres(tmp_path / "data"))
    script = "import sys; from pathlib import Path; from eventpulse.local.process_table import servers_in; "
    script += "print(servers_in(Path(sys.argv[1]), 'postgres'))"
    command = ["setpriv", "--bounding-set", "-sys_ptrace", sys.executable, "-c", script, str(tmp_path / "data")]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert written.strip() == f"[{servers[0].pid}]"


@pytest.mark.parametrize("start", [embedded.start_redis, clusters.start_postgres])
def test_a_server_that_does_not_answer_is_neither_killed_nor_started_twice(
    start: Callable[[Path], Daemon], tmp_path: Path, servers: list[Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.append(start(tmp_path / "data"))
    silent = psutil.Process(servers[0].pid)
    monkeypatch.setattr(daemon, "START_SECONDS", 0.1)
    silent.suspend()
    try:
        with pytest.raises(EmbeddedServerError, match=f"does not respond: stop process .*{silent.pid}"):
            start(tmp_path / "data")
    finally:
        silent.resume()
    assert silent.is_running()


def test_a_server_that_is_starting_may_exceed_the_time_limit_of_a_silent_server(
    tmp_path: Path, servers: list[Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start takes longer than `START_SECONDS`, the time limit for a server that does not answer."""
    monkeypatch.setattr(daemon, "START_SECONDS", 0.2)
    answers = iter([ServerStartingError("loading")] * 20)

    def identify() -> int | None:
        if answer := next(answers, None):
            raise answer
        return server.pid

    command = ["sleep", "60"]
    server = Daemon(
        "sleep",
        "",
        tmp_path,
        command,
        tmp_path / "log",
        identify,
        stop_signal=signal.SIGTERM,
        kill_signal=signal.SIGKILL,
    )
    servers.append(server)
    server.start()
    assert server.exit_status() is None


def test_a_redis_that_loads_its_data_is_found_after_the_load(tmp_path: Path, servers: list[Daemon]) -> None:
    first = embedded.start_redis(tmp_path / "redis")
    with redis.Redis.from_url(first.url) as client:
        for number in range(300):
            client.set(f"key-{number}", os.urandom(40_000))
        client.bgrewriteaof()  # writes a snapshot: `key-load-delay` delays only the load of snapshots
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: first.exit_status() is not None)
    slow = [*first.command, "--key-load-delay", "10000"]  # 10,000 µs for each of 300 keys
    server = Daemon("Redis", first.url, first.data, slow, first.log, first.identify, signal.SIGTERM, signal.SIGKILL)
    servers.append(server)
    server.spawn()
    until(lambda: is_starting(server))
    assert embedded.start_redis(tmp_path / "redis").pid == server.pid


def is_starting(server: Daemon) -> bool:
    try:
        server.find()
    except ServerStartingError:
        return True
    return False

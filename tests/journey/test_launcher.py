"""Tests of `eventpulse up`: start, crashes of its processes, and stop."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest
from support.processes import free_ports, is_alive, run, up
from support.waiting import until

from eventpulse.local import server_log

EVENT = {"event_type": "order", "source": "shop", "timestamp": "2026-11-20T12:00:00Z", "payload": {"total": 3}}


def post_event(url: str) -> str:
    return str(httpx.post(f"{url}/events", json=EVENT).raise_for_status().json()["event_id"])


def is_stored(url: str, event_id: str) -> bool:
    return httpx.get(f"{url}/events/{event_id}").status_code == 200


def test_up_runs_everything_stops_all_processes_and_finds_its_data_again(tmp_path: Path) -> None:
    with up(tmp_path, "first") as running:
        event_id = post_event(running.url)
        until(lambda: is_stored(running.url, event_id))
        family = running.family()
        began = time.monotonic()
        assert running.interrupt() == 0
        assert time.monotonic() - began < 10
        assert [member for member in family if is_alive(member)] == []
        assert "killed" not in running.printed()
        assert [line for line in running.printed().splitlines() if "warning" in line] == []
    with up(tmp_path, "second") as again:
        assert is_stored(again.url, event_id)


def test_the_logs_of_the_servers_are_rotated_while_up_runs(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        data = Path(running.settings["EVENTPULSE_DATA_DIR"])
        logs = [data / "postgres.log", data / "redis" / "redis.log"]
        for log in logs:
            with log.open("ab") as file:
                file.write(b"line\n" * (server_log.MAX_BYTES // 5 + 1))
        until(lambda: all(log.stat().st_size < server_log.MAX_BYTES for log in logs), 30)
        assert [log.with_name(f"{log.name}.1").stat().st_size for log in logs] == [server_log.MAX_BYTES] * 2


def test_a_killed_process_is_restarted_and_no_event_is_lost(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        for unit in ("worker-1", "redis", "postgres", "api"):
            killed = running.pid_of(unit)
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed, unit=unit: running.pid_of(unit) != killed)
        assert "killed by SIGKILL; restarting in" in running.printed()

        def try_to_post() -> str | None:
            try:
                return post_event(running.url)
            except httpx.HTTPError:
                return None

        event_id = until(try_to_post, 20)
        until(lambda: is_stored(running.url, event_id), 20)
        assert running.interrupt() == 0


def test_the_servers_of_a_killed_supervisor_are_used_by_the_next(tmp_path: Path) -> None:
    with up(tmp_path, "first") as running:
        event_id = post_event(running.url)
        servers = {unit: running.pid_of(unit) for unit in ("redis", "postgres")}
        processes = [psutil.Process(pid) for pid in servers.values()]
        children = [member for member in running.family() if not {member.pid, member.ppid()} & set(servers.values())]
        running.process.kill()
        running.process.wait(10)
        until(lambda: not any(is_alive(member) for member in children))
        with up(tmp_path, "second") as again:
            assert {unit: again.pid_of(unit) for unit in servers} == servers
            until(lambda: is_stored(again.url, event_id))
            assert again.interrupt() == 0
            assert not any(is_alive(server) for server in processes)


def test_the_demo_ends_with_an_alert_and_other_commands_find_the_servers(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        first = run("demo", **running.settings)
        assert first.returncode == 0, first.stderr
        assert "CRITICAL" in first.stdout
        assert "Payment errors" in first.stdout
        again = run("demo", **running.settings)
        assert again.returncode == 0, again.stderr
        assert "(exists)" in again.stderr
        assert run("check", **running.settings).returncode == 0
        assert run("migrate", "status", **running.settings).returncode == 0

        second = run("up", **{**running.settings, **_other_ports()})
        assert second.returncode == 1
        assert f"`eventpulse up` (process {running.process.pid}) already uses the data folder" in second.stderr


def test_a_second_ctrl_c_kills_processes_that_have_not_stopped(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        worker = psutil.Process(running.pid_of("worker-1"))
        worker.suspend()
        family = running.family()
        running.process.send_signal(signal.SIGINT)
        until(lambda: "scheduler │ stopped" in running.printed())
        began = time.monotonic()
        assert running.interrupt() == 130
        assert time.monotonic() - began < 2
        until(lambda: not any(is_alive(member) for member in family))


def _other_ports() -> dict[str, str]:
    port, live_port = free_ports(2)
    return {"EVENTPULSE_PORT": str(port), "EVENTPULSE_LIVE_PORT": str(live_port)}


def test_a_port_in_use_is_reported_in_one_line_with_the_port_and_the_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for variable, command in (
            ("EVENTPULSE_PORT", "up"),
            ("EVENTPULSE_LIVE_PORT", "up"),
            ("EVENTPULSE_PORT", "api"),
        ):
            settings = {**_other_ports(), variable: port, "EVENTPULSE_DATA_DIR": str(tmp_path)}
            if command == "api":
                settings |= {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
            failed = run(command, **settings)
            assert failed.returncode == 1
            expected = (
                f"Error: port {port} on 127.0.0.1 is in use: stop the process that listens there, or set {variable}"
            )
            assert failed.stderr.startswith(expected)
            assert len(failed.stderr.splitlines()) == 1


def test_a_data_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = run("up", EVENTPULSE_DATA_DIR=str(tmp_path / "file" / "data"), **_other_ports())
    assert failed.returncode == 1
    assert failed.stderr.endswith("cannot be created (Not a directory); set EVENTPULSE_DATA_DIR to a writable folder\n")
    assert len(failed.stderr.splitlines()) == 1


def test_given_servers_that_are_unavailable_are_reported_with_exit_code_69(tmp_path: Path, redis_url: str) -> None:
    (closed,) = free_ports(1)
    settings = {"EVENTPULSE_DATA_DIR": str(tmp_path), **_other_ports()}
    unavailable = {
        "REDIS_URL": f"redis://:s3cret@127.0.0.1:{closed}",
        "DATABASE_URL": f"postgresql://me:s3cret@127.0.0.1:{closed}/x",
    }
    no_redis = run("up", **settings, **unavailable)
    no_postgres = run("up", **settings, **{**unavailable, "REDIS_URL": redis_url})
    assert (no_redis.returncode, no_postgres.returncode) == (69, 69)
    assert no_redis.stderr.startswith("Error: Redis is unavailable")
    assert no_postgres.stderr.startswith("Error: PostgreSQL is unavailable")
    for failed in (no_redis, no_postgres):
        assert len(failed.stderr.splitlines()) == 1
        assert "s3cret" not in failed.stderr


def test_given_servers_are_used_and_keep_running_after_up(
    tmp_path: Path, redis_url: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "__init__.py").write_text(
        "raise SystemExit('the folder `rules` of the current folder was imported')"
    )
    monkeypatch.chdir(tmp_path)
    with up(tmp_path, REDIS_URL=redis_url, DATABASE_URL=empty_database) as running:
        event_id = post_event(running.url)
        until(lambda: is_stored(running.url, event_id))
        assert running.interrupt() == 0
    assert not (tmp_path / "data").exists()
    assert run("check", REDIS_URL=redis_url, DATABASE_URL=empty_database).returncode == 0

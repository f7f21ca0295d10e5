"""Tests of the embedded servers: durability, permissions, servers that already run, and errors at start."""

import os
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
import structlog
from support.waiting import until

from eventpulse.local import datadir, embedded, server_log
from eventpulse.local.daemon import Daemon, EmbeddedServerError
from eventpulse.settings import Settings

Start = Callable[[Path], Daemon]

only_for_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user only if root starts it")


@pytest.fixture
def servers() -> Iterator[list[Daemon]]:
    """Return an empty list to which the test adds servers; stop these servers after the test."""
    started: list[Daemon] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture(params=[embedded.start_redis, embedded.start_postgres], ids=["redis", "postgres"])
def start(request: pytest.FixtureRequest, servers: list[Daemon]) -> Start:
    def start_and_register(data: Path) -> Daemon:
        server: Daemon = request.param(data)
        servers.append(server)
        return server

    return start_and_register


def test_redis_confirms_a_write_when_it_is_on_disk(tmp_path: Path, servers: list[Daemon]) -> None:
    servers.append(embedded.start_redis(tmp_path / "redis"))
    with redis.Redis.from_url(servers[0].url, decode_responses=True) as client:
        expected = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: client.config_get(name)[name] for name in expected} == expected
        client.set("kept", "yes")
    os.kill(servers[0].pid, signal.SIGKILL)
    until(lambda: servers[0].exit_status() is not None)
    servers.append(embedded.start_redis(tmp_path / "redis"))
    with redis.Redis.from_url(servers[1].url, decode_responses=True) as client:
        assert client.get("kept") == "yes"


def test_postgres_listens_on_no_network_and_keeps_its_data_after_a_crash(tmp_path: Path, servers: list[Daemon]) -> None:
    servers.append(embedded.start_postgres(tmp_path / "postgres"))
    with psycopg2.connect(servers[0].url) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("",)
        cursor.execute("CREATE TABLE kept (answer int)")
    connection.close()
    os.kill(servers[0].pid, signal.SIGKILL)
    until(lambda: servers[0].exit_status() is not None)
    servers.append(embedded.start_postgres(tmp_path / "postgres"))
    with psycopg2.connect(servers[1].url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
    connection.close()


def test_only_the_owner_can_read_the_data(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_running_server_is_used_and_not_started_twice(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    second = start(tmp_path / "data")
    assert (second.pid, second.url) == (first.pid, first.url)
    assert second.exit_status() is None
    second.stop()
    until(lambda: first.exit_status() is not None)


def test_a_path_that_is_too_long_for_a_socket_works_and_the_server_is_found_again(start: Start, tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30) / "data"
    first = start(data)
    assert start(data).pid == first.pid


def test_a_path_with_spaces_and_special_characters_works(start: Start, tmp_path: Path) -> None:
    assert start(tmp_path / "Application Support & more % ü" / "data").exit_status() is None


def test_a_stopped_server_can_be_stopped_again(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    pid = server.pid
    server.stop()
    server.stop()
    assert not psutil.pid_exists(pid)


def test_running_servers_are_found_by_the_data_folder(tmp_path: Path, servers: list[Daemon]) -> None:
    settings = Settings(data_dir=tmp_path)
    assert embedded.find(settings) == settings
    servers.append(embedded.start_redis(tmp_path / "redis"))
    servers.append(embedded.start_postgres(tmp_path / "postgres"))
    found = embedded.find(settings)
    assert (found.redis_url, found.database_url) == (servers[0].url, servers[1].url)


def test_a_file_in_place_of_a_folder_is_reported(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(datadir.DataDirError, match=r"cannot be created \(Not a directory\); set EVENTPULSE_DATA_DIR"):
        start(tmp_path / "file" / "below" / "data")


def test_a_postgres_that_cannot_start_is_reported_with_the_reason_and_the_log(tmp_path: Path) -> None:
    embedded.start_postgres(tmp_path / "data").stop()
    (tmp_path / "data" / "postgresql.conf").write_text("no such setting\n")
    with pytest.raises(EmbeddedServerError, match=r"postgresql\.conf. contains errors \(log file: .*data\.log"):
        embedded.start_postgres(tmp_path / "data")


def test_a_database_of_another_version_of_postgres_is_reported_with_both_versions(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        EmbeddedServerError, match=r"initialized by PostgreSQL version 9\.6, but .* has version 18: set"
    ):
        embedded.start_postgres(tmp_path / "data")


def test_a_redis_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "redis" / "appendonly.aof").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match=r"log file: .*redis\.log"):
        embedded.start_redis(tmp_path / "redis")


def test_an_unfinished_database_is_created_again(tmp_path: Path, servers: list[Daemon]) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    servers.append(embedded.start_postgres(tmp_path / "data"))
    assert not (tmp_path / "data.new").exists()


@only_for_root
def test_as_root_the_permissions_of_private_folders_do_not_change(tmp_path: Path, servers: list[Daemon]) -> None:
    folders = [tmp_path / "one", tmp_path / "one" / "two", tmp_path / "one" / "two" / "data"]
    for folder in folders:
        folder.mkdir(mode=0o700)
    above = {folder: folder.stat().st_mode for folder in tmp_path.parents}
    servers.append(embedded.start_postgres(folders[-1] / "postgres"))
    psycopg2.connect(servers[0].url).close()
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert {folder: folder.stat().st_mode for folder in above} == above


def test_only_the_owner_can_read_the_log_and_an_old_log_becomes_private(start: Start, tmp_path: Path) -> None:
    log = start(tmp_path / "data").log
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    log.chmod(0o644)
    server_log.open_for_append(log).close()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_large_log_is_rotated_while_the_server_writes(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the rotation, the server that was started before continues at the beginning of the file."""
    monkeypatch.setattr(server_log, "MAX_BYTES", 1_000)
    server = start(tmp_path / "data")
    with server.log.open("ab") as log:
        log.write(b"old line\n" * 1_000)
    server_log.rotate(server.log)
    old = server.log.with_name(f"{server.log.name}.1")
    assert (server.log.stat().st_size, old.stat().st_size, stat.S_IMODE(old.stat().st_mode)) == (0, 1_000, 0o600)
    server.stop()
    written = server.log.read_bytes()
    assert b"shut" in written or b"exit" in written
    assert b"\0" not in written
    server_log.rotate(server.log)
    assert server.log.read_bytes() == written or len(written) > 1_000


def test_a_log_that_cannot_be_copied_is_emptied_nevertheless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "MAX_BYTES", 10)
    (tmp_path / "server.log").write_text("x" * 100)
    (tmp_path / "server.log.1").mkdir()
    with structlog.testing.capture_logs() as lines:
        server_log.rotate(tmp_path / "server.log")
    assert [line["event"] for line in lines] == ["server_log_rotation_failed"]
    assert (tmp_path / "server.log").read_text() == ""
    server_log.rotate(tmp_path / "missing.log")


def test_the_log_of_postgres_contains_no_statement_that_failed_or_was_interrupted(
    tmp_path: Path, servers: list[Daemon]
) -> None:
    servers.append(embedded.start_postgres(tmp_path / "data"))
    with psycopg2.connect(servers[0].url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE channels (name text UNIQUE, settings text CHECK (length(settings) < 30))")
        cursor.execute("INSERT INTO channels VALUES ('ops', 's3cret')")
    for statement in ("VALUES ('ops', 's3cret')", "VALUES ('other', 's3cret of more than 30 characters')"):
        with pytest.raises(psycopg2.IntegrityError), connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO channels {statement}")
    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(connection.cursor().execute, "SELECT 's3cret', pg_sleep(60)")
        with psycopg2.connect(servers[0].url) as other, other.cursor() as cursor:
            until(lambda: runs(cursor, connection.info.backend_pid))
        other.close()
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        assert isinstance(interrupted.exception(10), psycopg2.OperationalError)
    # PostgreSQL starts its processes again; a stop before the end of this start would take seconds.
    until(lambda: servers[0].log.read_text().count("ready to accept connections") == 2)
    log = servers[0].log.read_text()
    assert "was terminated by signal 9" in log
    assert "duplicate key value" in log
    assert "s3cret" not in log


def runs(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    """Return whether the process of PostgreSQL runs a statement."""
    cursor.execute("SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'", [pid])
    return cursor.fetchone() is not None


def test_only_one_process_can_lock_a_data_folder(tmp_path: Path) -> None:
    with (
        datadir.locked(tmp_path),
        pytest.raises(
            datadir.DataDirError, match=rf"`eventpulse up` \(process {os.getpid()}\) already uses the data folder"
        ),
        datadir.locked(tmp_path),
    ):
        pass
    with datadir.locked(tmp_path):
        pass


def test_a_socket_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "eventpulse-0" / "digest"
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(datadir.DataDirError, match="belongs to another user"):
        datadir.make_socket_folder(folder)

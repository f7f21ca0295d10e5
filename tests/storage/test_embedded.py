"""Tests of the embedded servers: durability, permissions, servers that already run, and errors at start."""

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
import structlog
from support.waiting import until

from eventpulse.local import datadir, embedded
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
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServerError, match=r"initialized by PostgreSQL version 9\.6.*log file: .*data\.log"):
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
def test_as_root_a_home_folder_is_rejected_and_keeps_its_permissions() -> None:
    home = Path.home()
    before = home.stat().st_mode
    with pytest.raises(datadir.DataDirError, match="the data folder must not be in a home folder"):
        datadir.make_traversable(home / "eventpulse" / "postgres")
    assert home.stat().st_mode == before


@only_for_root
def test_as_root_every_change_of_a_permission_is_logged_before_it_is_made(tmp_path: Path) -> None:
    closed = [tmp_path / "one", tmp_path / "one" / "two"]
    for folder in closed:
        folder.mkdir(mode=0o700)
    datadir.make_traversable(tmp_path / "x")
    with structlog.testing.capture_logs() as lines:
        datadir.make_traversable(closed[1] / "postgres")
        datadir.make_traversable(closed[1] / "postgres")
    assert sorted(line["folder"] for line in lines) == [str(folder) for folder in closed]
    for line in lines:
        assert (line["event"], line["log_level"], line["added"]) == ("folder_permission_change", "warning", "o+x")
        assert line["reason"] == "PostgreSQL runs as another user, which needs access to this folder"
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in closed} == {0o701}


@only_for_root
def test_as_root_the_folders_of_other_users_are_not_changed(tmp_path: Path) -> None:
    own, foreign = tmp_path / "foreign" / "own", tmp_path / "foreign"
    own.mkdir(parents=True, mode=0o700)
    own.chmod(0o700)
    foreign.chmod(0o700)
    os.chown(foreign, 12345, 12345)
    with pytest.raises(datadir.DataDirError, match=rf"run `chmod o\+x {foreign}`"):
        datadir.make_traversable(own / "postgres")
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (own, foreign)} == {0o700}


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

"""The embedded servers: durable, private, found again, and clear about what keeps them from starting."""

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from support.waiting import until

from eventpulse.local import datadir, embedded
from eventpulse.local.daemon import Daemon, EmbeddedServerError
from eventpulse.settings import Settings

Start = Callable[[Path], Daemon]


@pytest.fixture
def servers() -> Iterator[list[Daemon]]:
    """Put every started server in here: it is stopped at the end."""
    started: list[Daemon] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture(params=[embedded.start_redis, embedded.start_postgres], ids=["redis", "postgres"])
def start(request: pytest.FixtureRequest, servers: list[Daemon]) -> Start:
    def starting(data: Path) -> Daemon:
        server: Daemon = request.param(data)
        servers.append(server)
        return server

    return starting


def test_redis_confirms_nothing_before_it_is_on_disk(tmp_path: Path, servers: list[Daemon]) -> None:
    servers.append(embedded.start_redis(tmp_path / "redis"))
    with redis.Redis.from_url(servers[0].url, decode_responses=True) as client:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.set("kept", "yes")
    os.kill(servers[0].pid, signal.SIGKILL)
    until(lambda: servers[0].exit_status() is not None)
    servers.append(embedded.start_redis(tmp_path / "redis"))
    with redis.Redis.from_url(servers[1].url, decode_responses=True) as client:
        assert client.get("kept") == "yes"


def test_postgres_listens_on_no_network_and_keeps_its_data(tmp_path: Path, servers: list[Daemon]) -> None:
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


def test_the_data_is_for_its_owner_alone(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_server_that_runs_already_is_used_not_started_twice(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    second = start(tmp_path / "data")
    assert (second.pid, second.url) == (first.pid, first.url)
    assert second.exit_status() is None
    second.stop()
    until(lambda: first.exit_status() is not None)


def test_a_path_too_long_for_a_socket_works_too_and_always_the_same_way(start: Start, tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30) / "data"
    first = start(data)
    assert start(data).pid == first.pid


def test_a_path_with_spaces_and_signs_works(start: Start, tmp_path: Path) -> None:
    assert start(tmp_path / "Application Support & more % ü" / "data").exit_status() is None


def test_stopping_twice_is_stopping_once(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    pid = server.pid
    server.stop()
    server.stop()
    assert not psutil.pid_exists(pid)


def test_a_running_pair_is_found_by_its_data_directory(tmp_path: Path, servers: list[Daemon]) -> None:
    settings = Settings(data_dir=tmp_path)
    assert embedded.find(settings) == settings
    servers.append(embedded.start_redis(tmp_path / "redis"))
    servers.append(embedded.start_postgres(tmp_path / "postgres"))
    found = embedded.find(settings)
    assert (found.redis_url, found.database_url) == (servers[0].url, servers[1].url)


def test_a_file_in_the_way_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(datadir.DataDirError, match=r"cannot be created \(Not a directory\); set EVENTPULSE_DATA_DIR"):
        start(tmp_path / "file" / "below" / "data")


def test_postgres_that_cannot_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    embedded.start_postgres(tmp_path / "data").stop()
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServerError, match=r"initialized by PostgreSQL version 9\.6.*its log is .*data\.log"):
        embedded.start_postgres(tmp_path / "data")


def test_redis_that_cannot_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    (tmp_path / "redis" / "appendonly.aof").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match=r"its log is .*redis\.log"):
        embedded.start_redis(tmp_path / "redis")


def test_a_half_made_database_is_made_anew(tmp_path: Path, servers: list[Daemon]) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    servers.append(embedded.start_postgres(tmp_path / "data"))
    assert not (tmp_path / "data.new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as someone else")
def test_root_is_refused_a_home_folder_rather_than_having_it_opened() -> None:
    home = Path.home()
    before = home.stat().st_mode
    with pytest.raises(datadir.DataDirError, match="as root the data cannot be kept in a home folder"):
        datadir.make_traversable(home / "eventpulse" / "postgres")
    assert home.stat().st_mode == before


def test_a_data_directory_has_one_holder_at_a_time(tmp_path: Path) -> None:
    with (
        datadir.locked(tmp_path),
        pytest.raises(datadir.DataDirError, match=rf"`eventpulse up` \(process {os.getpid()}\) already runs on"),
        datadir.locked(tmp_path),
    ):
        pass
    with datadir.locked(tmp_path):
        pass


def test_a_socket_folder_of_someone_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "eventpulse-0" / "digest"
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(datadir.DataDirError, match="belongs to another user"):
        datadir.make_socket_folder(folder)

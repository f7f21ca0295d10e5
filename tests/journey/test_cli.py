"""Tests of the commands: exit codes, output, and help."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import psycopg2
import pytest
import yaml
from support.cli import Run
from support.processes import COMMAND, environ, free_ports

from actors import worker
from eventpulse.cli import main
from eventpulse.local import launcher
from models import database

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("call", ["main(['--help'])", "shell_complete(click.Context(commands), '')"])
def test_help_and_completion_need_no_server_and_import_no_large_package(call: str) -> None:
    large = ["actors", "api", "models", "peewee", "redis", "psycopg2", "gunicorn", "httpx"]
    script = f"""if True:
        import click, sys
        from eventpulse.cli.main import commands
        try:
            commands.{call}
        finally:
            print("imported", [name for name in {large} if name in sys.modules])
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "imported []"


@pytest.mark.parametrize("name", main.REGISTRY)
def test_every_command_of_the_registry_exists_and_is_listed_with_its_help(name: str, eventpulse: Run) -> None:
    command = main.commands.get_command(click.Context(main.commands), name)
    assert command is not None
    assert command.name == name
    assert command.help
    assert main.REGISTRY[name].help in eventpulse("--help").out


def test_the_version_is_printed(eventpulse: Run) -> None:
    assert eventpulse("--version").out.startswith("eventpulse, version 0.")


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("dlq", "retry"), ("dlq", "list", "-o", "xml"), ("migrate", "up", "x")]
)
def test_invalid_usage_ends_with_exit_code_2(arguments: tuple[str, ...], with_servers: Run) -> None:
    ended = with_servers(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err


def test_all_invalid_settings_are_listed_with_exit_code_1(eventpulse: Run) -> None:
    for command in ("up", "api", "live", "worker", "scheduler", "migrate", "check", "demo", "bench"):
        ended = eventpulse(command, EVENTPULSE_PORT="x", EVENTPULSE_WORKERS="x")
        assert ended.code == 1
        assert ended.err.splitlines() == [
            "Error: EVENTPULSE_PORT: Must be a whole number",
            "Error: EVENTPULSE_WORKERS: Must be a whole number",
        ]


@pytest.mark.parametrize("command", ["api", "live", "worker", "scheduler", "migrate", "doctor", "dlq list"])
def test_without_servers_the_remedy_is_printed_in_one_line_with_exit_code_69(command: str, eventpulse: Run) -> None:
    ended = eventpulse(*command.split())
    assert ended.code == 69
    assert "start it, or set" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["worker", "migrate", "doctor", "dlq list"])
def test_unavailable_servers_are_reported_without_secrets_with_exit_code_69(command: str, eventpulse: Run) -> None:
    (closed,) = free_ports(1)
    ended = eventpulse(
        *command.split(),
        REDIS_URL=f"redis://127.0.0.1:{closed}",
        DATABASE_URL=f"postgresql://u:s3cret@127.0.0.1:{closed}/x",
    )
    assert ended.code == 69
    assert "unavailable (" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert "s3cret" not in ended.err


def test_the_demo_reports_an_unavailable_api_with_exit_code_69(eventpulse: Run) -> None:
    (closed,) = free_ports(1)
    ended = eventpulse("demo", "--url", f"http://127.0.0.1:{closed}")
    assert ended.code == 69
    assert ended.err.startswith(f"Error: no API is available at http://127.0.0.1:{closed}")


def test_check_shows_every_setting_and_its_source(with_servers: Run) -> None:
    ended = with_servers("check", "-o", "json")
    shown = {row["variable"]: row for row in json.loads(ended.out)}
    assert ended.code == 0
    assert shown["EVENTPULSE_PORT"]["source"] == "default"
    assert shown["REDIS_URL"]["source"] == "environment"


def test_migrate_updates_reverts_and_shows_the_schema(eventpulse: Run, redis_url: str, database_url: str) -> None:
    admin = psycopg2.connect(database_url)
    admin.autocommit = True
    admin.cursor().execute("CREATE DATABASE to_migrate")
    url = urlsplit(database_url)._replace(path="/to_migrate").geturl()
    settings = {"DATABASE_URL": url, "REDIS_URL": redis_url}
    try:
        assert eventpulse("migrate", "status", **settings).code == 3
        assert "pending: 0001_initial" in eventpulse("doctor").err
        assert "would apply 0001_initial" in eventpulse("migrate", "--dry-run").err
        up = eventpulse("migrate", "-o", "ndjson")
        assert json.loads(up.out.splitlines()[0]) == {"name": "0001_initial", "state": "applied"}
        assert "up to date" in eventpulse("migrate", "up").err
        assert eventpulse("migrate", "status").code == 0
        assert eventpulse("migrate", "down", "0001_initial").code == 6
        assert eventpulse("migrate", "down", "0001_initial", "--dry-run").code == 0
        assert eventpulse("migrate", "down", "none_such").code == 4
        assert eventpulse("migrate", "status").code == 0
        assert eventpulse("migrate", "down", "0001_initial", "--yes").code == 0
        assert eventpulse("migrate", "down", "--yes").err == "No migrations to revert.\n"
        assert eventpulse("migrate", "status").code == 3
    finally:
        database.database.close_all()
        admin.cursor().execute("DROP DATABASE to_migrate")
        admin.close()


def test_an_interrupted_command_ends_with_exit_code_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = environ(DATABASE_URL=f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x")
        process = subprocess.Popen(
            [*COMMAND, "demo", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"], env=settings
        )
        try:
            silent.accept()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()
            process.wait()


def test_ctrl_c_ends_a_command_while_a_lock_of_httpcore_is_held() -> None:
    program = """if True:
        import os, signal
        from httpcore._synchronization import ThreadLock
        from eventpulse.cli.main import main

        enter = ThreadLock.__enter__
        ThreadLock.__enter__ = lambda lock: (enter(lock), os.kill(os.getpid(), signal.SIGINT))
        main()
    """
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    ended = subprocess.run(
        [sys.executable, "-c", program, "demo", "--url", url], env=environ(), timeout=20, check=False
    )
    assert ended.returncode == 130


def test_a_worker_has_the_time_that_it_needs_to_stop_under_up_and_in_compose() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert launcher.WORKER_GRACE_SECONDS > worker.FORCED_EXIT_SECONDS
    assert float(services["worker"]["stop_grace_period"].removesuffix("s")) > worker.FORCED_EXIT_SECONDS


def test_the_compose_file_runs_commands_that_exist_and_waits_for_health() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {name: service for name, service in services.items() if service["image"] == "eventpulse"}
    assert set(built) == {"migrate", "api", "live", "worker", "scheduler"}
    for name, service in built.items():
        assert service["command"][0] in main.REGISTRY, name
        for needed, how in service["depends_on"].items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
    redis_command = " ".join(services["redis"]["command"])
    for promise in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert promise in redis_command

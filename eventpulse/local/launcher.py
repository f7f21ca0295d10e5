"""Start of `eventpulse up`: the embedded servers, the schema update and the supervision of every process."""

import os
import signal
import sys
import time
from contextlib import ExitStack

import click
import httpx
import psycopg2
import redis

from actors import builtin_channels
from eventpulse import logs, ports, preflight
from eventpulse.local import child, datadir, embedded, server_log
from eventpulse.local.child import PARENT_OPTION, Child
from eventpulse.local.daemon import Daemon
from eventpulse.local.process_output import ProcessOutput
from eventpulse.local.supervisor import Phase, Supervisor, Unit
from eventpulse.settings import ConnectedSettings, Settings
from models import database, migrations

CONNECT_SECONDS = 5
#: Maximum time for the stop of a worker, which waits up to 11 s for its sends and exits after 12 s at the latest.
WORKER_GRACE_SECONDS = 13.0
#: Longer than the 2 s in which the API ends its requests, plus the time of its exit on a busy machine.
API_GRACE_SECONDS = 5.0
GRACE_SECONDS = 2.0
#: Maximum time to wait for the ports of processes whose supervisor was killed.
ORPHANS_SECONDS = 15.0
POLL_SECONDS = 0.1
LOG_CHECK_SECONDS = 10.0  # pause between two checks of the size of the servers' logs


def up(settings: Settings) -> int:
    """Run all of EventPulse in this terminal until a signal stops it; return the exit code.

    Raises `UserError` if a part cannot be started, and `redis.RedisError` or `psycopg2.Error` if a server is
    unavailable; all started processes are stopped first.
    """
    # Until the supervisor handles signals, a signal raises KeyboardInterrupt, so that the started servers are stopped.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    _ensure_ports_free(settings)
    is_console = logs.resolve_format(settings.log_format) == "console"
    output = ProcessOutput(labelled=is_console, coloured=logs.use_colour(sys.stderr))
    with ExitStack() as stack:
        servers = _start_servers(settings, stack, output)
        connected = _connected(settings, servers)
        _verify(connected)
        _prepare_database(connected)
        preflight.ensure_ready(connected, migrations.pending)
        supervisor = Supervisor(_phases(connected, servers, output), output)
        supervisor.start()
        _supervise(supervisor, connected, servers)
        return supervisor.stop()


def _ensure_ports_free(settings: Settings) -> None:
    """Check that both ports are free; wait until the processes of a killed `up` have exited. Raises `PortError`."""
    deadline = time.monotonic() + ORPHANS_SECONDS
    while True:
        try:
            ports.ensure_free(settings.host, settings.port, "EVENTPULSE_PORT")
            ports.ensure_free(settings.host, settings.live_port, "EVENTPULSE_LIVE_PORT")
            return
        except ports.PortError:
            if not child.orphans() or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _start_servers(settings: Settings, stack: ExitStack, output: ProcessOutput) -> dict[str, Daemon]:
    """Start an embedded server for each missing URL; return the servers by name. `stack` stops the servers.

    Raises `DataDirError` or `EmbeddedServerError`.
    """
    # PostgreSQL first: if its user cannot access the data folder, the command fails before Redis is started.
    missing = []
    if settings.database_url is None:
        missing.append(("postgres", embedded.start_postgres))
    if settings.redis_url is None:
        missing.append(("redis", embedded.start_redis))
    if missing:
        stack.enter_context(datadir.locked(settings.data_dir))
    servers = {}
    for name, start in missing:
        servers[name] = server = start(settings.data_dir / name)
        stack.callback(server.stop)
        output.state(name, f"running (process {server.pid})")
    return servers


def _connected(settings: Settings, servers: dict[str, Daemon]) -> ConnectedSettings:
    return ConnectedSettings.of(
        settings,
        redis_url=settings.redis_url or servers["redis"].url,
        database_url=settings.database_url or servers["postgres"].url,
    )


def _verify(settings: ConnectedSettings) -> None:
    """Connect to both servers, so that a wrong URL causes one error, and not one error in every process."""
    with redis.Redis.from_url(
        settings.redis_url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS
    ) as client:
        client.ping()
    psycopg2.connect(settings.database_url, connect_timeout=CONNECT_SECONDS).close()


def _prepare_database(settings: ConnectedSettings) -> None:
    database.configure(settings.database_url, name="eventpulse up")
    migrations.up()
    builtin_channels.ensure_builtin(settings)
    database.database.close_all()


def _phases(settings: ConnectedSettings, servers: dict[str, Daemon], output: ProcessOutput) -> list[Phase]:
    """Return the shutdown phases: API and live gateway, scheduler, workers, servers."""

    def unit(name: str, command: str) -> Unit:
        # -P: otherwise a folder named `rules` in the current folder would be imported in place of the package.
        argv = [sys.executable, "-P", "-m", "eventpulse", PARENT_OPTION, str(os.getpid()), command]
        return Unit(name, Child(name, argv, environ, lambda stream, text: output.line(name, stream, text)))

    environ = _environ(settings)
    workers = [unit(f"worker-{number}", "worker") for number in range(1, settings.workers + 1)]
    return [
        Phase([unit("api", "api"), unit("live", "live")], API_GRACE_SECONDS),
        Phase([unit("scheduler", "scheduler")], GRACE_SECONDS),
        Phase(workers, WORKER_GRACE_SECONDS),
        Phase([Unit(name, server) for name, server in servers.items()], GRACE_SECONDS),
    ]


def _environ(settings: ConnectedSettings) -> dict[str, str]:
    environ = {
        **os.environ,
        "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
        "LOG_FORMAT": logs.resolve_format(settings.log_format),
        "PYTHONUNBUFFERED": "1",
    }
    if logs.use_colour(sys.stderr):
        environ["FORCE_COLOR"] = "1"
    return environ


def _supervise(supervisor: Supervisor, settings: Settings, servers: dict[str, Daemon]) -> None:
    """Supervise until a stop is requested; print the addresses when the API is ready, and rotate the servers' logs."""
    api = f"http://{ports.reachable_host(settings.host)}:{settings.port}"
    announced = False
    next_log_check = time.monotonic()
    while not supervisor.stopping:
        supervisor.wait()
        if time.monotonic() >= next_log_check:
            next_log_check = time.monotonic() + LOG_CHECK_SECONDS
            for server in servers.values():
                server_log.rotate(server.log)
        if not announced and _answers(api):
            announced = True
            _announce(api, settings)


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/livez", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _announce(api: str, settings: Settings) -> None:
    host = ports.reachable_host(settings.host)
    lines = [
        "",
        "EventPulse is running. Press Ctrl-C to stop.",
        f"  API          {api}",
        f"  Live alerts  ws://{host}:{settings.live_port}/ws",
        f"  Data         {settings.data_dir}",
        f"  Try          {sys.argv[0]} demo   (in a second terminal)",
        "",
    ]
    click.echo("\n".join(lines))

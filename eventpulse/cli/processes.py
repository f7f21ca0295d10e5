"""Commands that run until they are stopped: `up`, `api`, `live`, `worker` and `scheduler`.

Each command imports only its own part of the system, because the API must not import peewee before gevent has patched
its process.
"""

import click

from eventpulse import logs
from eventpulse.cli.connection import connected_settings, redis_settings
from eventpulse.settings import ConnectedSettings, Settings


@click.command()
def up() -> int:
    """Run everything in this terminal: API, live gateway, workers and scheduler. Press Ctrl-C to stop.

    If REDIS_URL is unset, an embedded Redis is started; if DATABASE_URL is unset, an embedded PostgreSQL. Their data is
    in EVENTPULSE_DATA_DIR. If `up` is killed, both servers keep running, and the next `up` uses them.

    PostgreSQL refuses to run as root. If `up` runs as root, PostgreSQL runs as the system user `pgserver`, which is
    created if it does not exist. If `pgserver` cannot run the installed programs of PostgreSQL, the programs are copied
    to /var/lib/eventpulse-postgres. Both changes are logged before they are made. The permissions of existing folders
    are never changed.
    """
    settings = Settings.from_environ()
    logs.configure(settings.log_level, settings.log_format)
    from eventpulse.local import launcher

    return launcher.up(settings)


@click.command()
def api() -> int:
    """Run the HTTP API."""
    settings = _settings_with_logs()
    from api import server

    return server.run(settings)


@click.command()
def live() -> int:
    """Run the WebSocket gateway."""
    settings, redis_url = redis_settings()
    logs.configure(settings.log_level, settings.log_format)
    from api.live import gateway

    return gateway.run(settings, redis_url)


@click.command()
def worker() -> int:
    """Run one worker process: it stores events, evaluates rules and sends alerts."""
    settings = _settings_with_logs()
    from actors import worker

    return worker.run(settings)


@click.command()
def scheduler() -> int:
    """Run a scheduler. Several can run at the same time; only the leader runs the periodic jobs."""
    settings = _settings_with_logs()
    from schedules import scheduler

    return scheduler.run(settings)


def _settings_with_logs() -> ConnectedSettings:
    settings = connected_settings()
    logs.configure(settings.log_level, settings.log_format)
    return settings

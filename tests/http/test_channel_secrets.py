"""Test that the log of a PostgreSQL with its default configuration contains no secrets of channels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from falcon.testing import TestClient
from support import clusters
from support.api_server import api_settings

from api.app import create_app
from eventpulse.local.daemon import Daemon
from models import database, migrations

SECRET = "https://hooks.slack.com/services/T0/B0/s3cret"
SLACK: dict[str, Any] = {"name": "ops", "kind": "slack", "settings": {"webhook_url": SECRET}}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Daemon]:
    """Start a PostgreSQL that logs the statements of errors, which is its default, unlike that of the embedded one."""
    server = clusters.start_postgres(tmp_path / "data")
    with psycopg2.connect(server.url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE postgres SET log_min_error_statement = 'error'")
    connection.close()
    database.configure(server.url, name="tests")
    migrations.up()
    yield server
    database.database.close_all()
    server.stop()


def test_a_name_in_use_causes_no_statement_with_a_secret_in_the_log(
    postgres: Daemon, redis_url: str, redis_client: redis.Redis
) -> None:
    client = TestClient(create_app(api_settings(redis_url, postgres.url)))
    assert client.simulate_post("/api/v1/channels", json=SLACK).status_code == 201
    other = client.simulate_post("/api/v1/channels", json=SLACK | {"name": "other"}).json
    path = f"/api/v1/channels/{other['channel_id']}"
    assert client.simulate_post("/api/v1/channels", json=SLACK).status_code == 409
    assert client.simulate_put(path, json=SLACK).status_code == 409
    assert client.simulate_patch(path, json={"name": "ops"}).status_code == 409
    assert client.simulate_get(path).json == other
    log = postgres.log.read_text()
    assert "STATEMENT" in log
    assert "s3cret" not in log

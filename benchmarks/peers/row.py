"""Storage of an event by the peers: one INSERT and one commit for each event."""

import os
import threading
from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extras import Json

COLUMNS = ("event_id", "event_type", "source", "timestamp", "payload", "metadata", "received_at")
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"

_local = threading.local()


def store(event: Mapping[str, Any]) -> None:
    """Insert one event and commit. Each thread has its own connection to `DATABASE_URL`."""
    values = [Json(value) if isinstance(value, dict) else value for value in map(event.get, COLUMNS)]
    with _connection().cursor() as cursor:
        cursor.execute(INSERT, values)


def _connection() -> psycopg2.extensions.connection:
    if not hasattr(_local, "connection"):
        _local.connection = psycopg2.connect(os.environ["DATABASE_URL"])
        # Autocommit: a separate BEGIN and a separate COMMIT would cost the peer two more round trips.
        _local.connection.autocommit = True
    connection: psycopg2.extensions.connection = _local.connection
    return connection

"""Stored events: one row for each event id, conflicting duplicates, and summaries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import msgspec
import peewee

from eventpulse.times import iso_utc
from models.base import Row, jsonb, time
from models.database import database
from models.dead_letter import DeadLetter
from models.pending_evaluation import INSERT_PENDING

#: Maximum size of the payload in the summary of an event, in bytes of JSON.
MAX_SAMPLE_BYTES = 4 * 1024

_RECORD = """(event_id uuid, event_type text, source text, timestamp timestamptz,
              payload jsonb, metadata jsonb, received_at timestamptz)"""

# A single statement needs one round trip, and stores no event without its pending evaluation. The rows are sorted, so
# that two workers with overlapping batches lock them in the same order and cannot deadlock.
INSERT = f"""
    WITH pending AS ({INSERT_PENDING})
    INSERT INTO events (event_id, event_type, source, timestamp, payload, metadata, received_at)
    SELECT event_id, event_type, source, timestamp, payload, metadata, received_at
    FROM jsonb_to_recordset(%s::jsonb) AS sent {_RECORD}
    ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING
"""  # noqa: S608 - both texts are constants


def _content(row: str) -> str:
    """Return SQL for the content of an event. jsonb compares by value: key order has no meaning, and 1 equals 1.0."""
    return f"jsonb_build_array({row}.event_type, {row}.source, {row}.timestamp, {row}.payload, {row}.metadata)"


def _digest(row: str) -> str:
    return f"left(encode(sha256(convert_to({_content(row)}::text, 'UTF8')), 'hex'), 16)"


# The statement reads the events in the same way as INSERT, so that equal contents compare as equal.
CONFLICTS = f"""
    SELECT sent.ordinality - 1, stored.event_id, to_jsonb(stored)::text, {_digest("stored")}, {_digest("sent")}
    FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS {_RECORD}) WITH ORDINALITY AS sent
    JOIN events AS stored ON stored.event_id = sent.event_id
    WHERE {_content("stored")} <> {_content("sent")}
    ORDER BY sent.ordinality
"""  # noqa: S608 - all texts are constants


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event whose id is stored with other content.

    `position` is the index of the event in the batch, from 0. `stored` is the stored event as a JSON object.
    `stored_digest` and `digest` are the digests of the stored event and of this event: the first 16 hexadecimal digits
    of the SHA-256 of event_type, source, timestamp, payload and metadata.
    """

    position: int
    event_id: UUID
    stored: bytes
    stored_digest: str
    digest: str


class Event(Row):
    """One event. `timestamp` was sent by the client; `received_at` is its time of arrival by the clock of the API."""

    event_id = peewee.UUIDField(primary_key=True)
    event_type = peewee.TextField()
    source = peewee.TextField()
    timestamp = time()
    payload = jsonb()
    metadata = jsonb()
    received_at = time()

    class Meta:
        table_name = "events"

    @classmethod
    def store(cls, encoded: Iterable[bytes], pending_evaluations: Mapping[str, Sequence[str]] | None = None) -> int:
        """Insert events (JSON objects) together with their pending evaluations; return the number of new events.

        `pending_evaluations` maps the id of each bundle to the ids of its events. An event whose id is already stored
        is ignored. Raises `peewee.DataError`, and stores nothing, if PostgreSQL cannot store one of the events.
        """
        pending_evaluations = pending_evaluations or {}
        ids = ["{" + ",".join(event_ids) + "}" for event_ids in pending_evaluations.values()]
        cursor = database.execute_sql(INSERT, (list(pending_evaluations), ids, _array(encoded)))
        return int(cursor.rowcount)

    @classmethod
    def conflicts(cls, encoded: Iterable[bytes]) -> list[Conflict]:
        """Return the conflicts of `encoded` with stored events, in the order of `encoded`; call after `store`."""
        rows = database.execute_sql(CONFLICTS, (_array(encoded),)).fetchall()
        return [
            Conflict(position, event_id, stored.encode(), *digests) for position, event_id, stored, *digests in rows
        ]

    @classmethod
    def evaluable(cls, event_ids: Sequence[UUID]) -> list[Self]:
        """Return the stored events among `event_ids`, except events with a dead letter of the queue `evaluate`."""
        dead = DeadLetter.select(DeadLetter.event_id).where(
            DeadLetter.event_id.in_(event_ids), DeadLetter.queue_name == "evaluate"
        )
        return list(cls.select().where(cls.event_id.in_(event_ids), cls.event_id.not_in(dead)))

    @classmethod
    def summaries(cls, event_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return the summary of each stored event, by id."""
        return {event.event_id: event.summary() for event in cls.select().where(cls.event_id.in_(list(event_ids)))}

    @classmethod
    def counts(cls, group_by: str, after: datetime, until: datetime, limit: int) -> list[tuple[str, int]]:
        """Return (value, number of events) for the `limit` most frequent values of `group_by` in `(after, until]`.

        `group_by` is `event_type` or `source`.
        """
        group, count = getattr(cls, group_by), peewee.fn.COUNT(cls.event_id)
        rows: Any = (
            cls.select(group, count)
            .where(cls.timestamp > after, cls.timestamp <= until)
            .group_by(group)
            .order_by(count.desc(), group)
            .limit(limit)
            .tuples()
        )
        return list(rows)

    def summary(self) -> dict[str, Any]:
        """Return the event as stored in the evidence of an anomaly, without `metadata` and `received_at`.

        If the payload has more than `MAX_SAMPLE_BYTES` as JSON, fields are left out, and `payload_cut` has the size of
        the whole payload in bytes and the number of omitted fields.
        """
        payload, cut = cut_payload(self.payload)
        return {
            "event_id": str(self.event_id),
            "event_type": self.event_type,
            "source": self.source,
            "timestamp": iso_utc(self.timestamp),
            "payload": payload,
            **({"payload_cut": cut} if cut else {}),
        }


def cut_payload(payload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int] | None]:
    """Return the fields of a payload that fit into `MAX_SAMPLE_BYTES` as JSON, and a description of the cut or None."""
    size = len(msgspec.json.encode(payload))
    if size <= MAX_SAMPLE_BYTES:
        return payload, None
    kept: dict[str, Any] = {}
    free = MAX_SAMPLE_BYTES
    for name, value in payload.items():
        needed = len(msgspec.json.encode({name: value}))
        if needed <= free:
            kept[name] = value
            free -= needed
    return kept, {"bytes": size, "omitted_fields": len(payload) - len(kept)}


def _array(encoded: Iterable[bytes]) -> str:
    return "[" + b",".join(encoded).decode() + "]"

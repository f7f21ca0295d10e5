"""Faults of messages that are unreadable, crash their worker, or have the format of another version."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from chaos.context import Context, Fault, Size
from chaos.crashing_event import kill_every_holder
from chaos.server_state import NAMESPACE, state_of
from chaos.traffic import EVENT_TYPE
from chaos.webhook import HEALTHY
from dramatiq import Message
from dramatiq.encoder import JSONEncoder
from support import fake_http_server
from support.waiting import until

#: Time after which a leased entry counts as not processed; the processing of a batch takes a fraction of a second.
UNPROCESSED_SECONDS = 3.0


def undecodable(context: Context) -> None:
    """Enqueue an unreadable entry for each 100 events, and expect one dead letter for each entry.

    The entries are messages and bundles in turn, in the queues `persist` and `evaluate`.
    """
    state, added = state_of(context.system), 0
    deadline = time.monotonic() + context.size.events / context.size.per_second
    while time.monotonic() < deadline:
        if added * 100 > len(context.client.sent) - 100:
            context.wait(0.02)
            continue
        number = context.rng.getrandbits(64)
        entry_id = f"1*junk{number:x}" if added % 2 else f"junk{number:x}"
        # Each line of a bundle is a record: a line break in the noise would add a record and a dead letter.
        noise = context.rng.randbytes(40).replace(b"\n", b"")
        state.put(("persist", "evaluate")[added // 2 % 2], entry_id, b"\xff\x00{" + noise)
        added += 1
    context.recoveries.record_injection("the last unreadable entry was queued")
    context.notes["added"] = added
    with suppress(AssertionError):
        until(lambda: state.unreadable() >= added, 60 if context.system.name == "eventpulse" else 15)
    context.notes["dead_letters"] = letters = state.unreadable()
    context.expect(f"{added} unreadable entries, {letters} dead letters", letters == added)
    record_unprocessed(context)


def record_unprocessed(context: Context) -> None:
    """Record the numbers of unreadable entries and of events that remain leased for `UNPROCESSED_SECONDS`."""
    leases = state_of(context.system).leases
    before = leases.entries("persist", "evaluate")
    context.wait(UNPROCESSED_SECONDS)
    unprocessed = {entry: before[entry] for entry in before.keys() & leases.entries("persist", "evaluate").keys()}
    context.notes["unprocessed_unreadable"] = sum(not ids for ids in unprocessed.values())
    context.notes["unprocessed_events"] = sum(map(len, unprocessed.values()))


def other_versions(context: Context) -> None:
    """Enqueue a message of plain Dramatiq, a message with unknown fields, and a message for an unknown actor."""
    state = context.system.state
    plain, extended, unknown = (str(UUID(int=context.rng.getrandbits(128), version=4)) for _ in range(3))
    messages = {
        plain: message("persist", plain),
        extended: message("persist", extended) | {"from_the_future": {"a": [1]}},
        unknown: message("no_such_actor", unknown),
    }
    messages[extended]["options"] = {"traceparent": "00-1", "retries": 0}
    for event_id, queued in messages.items():
        state.put("persist", queued["message_id"], json.dumps(queued, separators=(",", ":")).encode())
        context.client.mark_acked(event_id)
    context.expected_dead.add(unknown)
    context.recoveries.record_injection("the messages were queued")
    until(lambda: not state.locations().in_progress.keys() & messages.keys(), 60)
    locations = state.locations()
    context.expect("a plain message is not stored", plain in locations.stored)
    context.expect("a message with unknown fields is not stored", extended in locations.stored)
    context.expect("a message for an unknown actor is not dead-lettered", unknown in locations.dead)
    kept = until(lambda: state.rows("SELECT message FROM dead_letters WHERE event_id = %s", unknown), 20)
    context.notes["kept_unchanged"] = json.loads(bytes(kept[0][0]))["args"] == messages[unknown]["args"]
    context.expect("the dead letter for an unknown actor has other arguments", context.notes["kept_unchanged"])
    with failing_webhook(context):
        notification = until(lambda: delayed_notification(context), 60) or b""
    read: Message[Any] = Message(**JSONEncoder().decode(notification))
    context.expect("Dramatiq cannot read a notification", (read.queue_name, read.actor_name) == ("notify", "notify"))


@contextmanager
def failing_webhook(context: Context) -> Iterator[None]:
    """Make the server of the first channel respond with 500 during the block."""
    server = context.system.webhooks[0].server
    server.behaviour = fake_http_server.answer(500)
    try:
        yield
    finally:
        server.behaviour = HEALTHY


def delayed_notification(context: Context) -> bytes | None:
    """Return the bytes of a delayed notification, which is stored as a plain Dramatiq message; None if none exists."""
    client = context.system.state.client
    entry_ids = client.zrange(f"{NAMESPACE}:notify.delayed", 0, 0)
    return client.hget(f"{NAMESPACE}:notify.msgs", entry_ids[0]) if entry_ids else None


def message(actor: str, event_id: str) -> dict[str, Any]:
    """Return a message with an event, in the format of plain Dramatiq."""
    now = time.time()
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    event = {
        "event_id": event_id,
        "event_type": EVENT_TYPE,
        "source": "gate",
        "timestamp": timestamp,
        "payload": {"episode": event_id},
        "metadata": {},
        "received_at": timestamp,
    }
    return {
        "queue_name": "persist",
        "actor_name": actor,
        "args": [event],
        "kwargs": {},
        "options": {},
        "message_id": event_id,
        "message_timestamp": int(now * 1000),
    }


FAULTS = [
    Fault(
        "undecodable",
        "One in a hundred entries of the queues `persist` and `evaluate` is unreadable.",
        undecodable,
        Size(1, 50_000),
        Size(1, 2_000),
    ),
    Fault(
        "crashing-event",
        "Every worker that leases a certain event is killed.",
        kill_every_holder,
        Size(1, 20_000, 200.0),
        Size(1, 2_000, 200.0),
    ),
    Fault(
        "other-versions",
        "Messages in the format of plain Dramatiq, with unknown fields, and for an unknown actor are queued.",
        other_versions,
        Size(1, 5_000),
        Size(1, 2_000),
        systems=("eventpulse",),
    ),
]

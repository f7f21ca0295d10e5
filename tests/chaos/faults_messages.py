"""Messages that nobody can read, that kill their worker, or that come from another version."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from chaos.context import Fault, Scene, Size
from chaos.deadly import deadly
from chaos.observing import NAMESPACE, seen
from chaos.traffic import EVENT_TYPE
from chaos.webhooks import WELL
from dramatiq import Message
from dramatiq.encoder import JSONEncoder
from support import fake_http_server
from support.waiting import until

#: A batch takes a fraction of a second.
FORGOTTEN_SECONDS = 3.0


def undecodable(scene: Scene) -> None:
    """One entry in a hundred, in both queues, as a bundle and as a message."""
    observed, put = seen(scene.plant), 0
    deadline = time.monotonic() + scene.size.events / scene.size.per_second
    while time.monotonic() < deadline:
        if put * 100 > len(scene.ledger.sent) - 100:
            scene.flow(0.02)
            continue
        number = scene.rng.getrandbits(64)
        entry_id = f"1*junk{number:x}" if put % 2 else f"junk{number:x}"
        # A line of a bundle is a message: noise with a line break in it might be two.
        noise = scene.rng.randbytes(40).replace(b"\n", b"")
        observed.put(("persist", "evaluate")[put // 2 % 2], entry_id, b"\xff\x00{" + noise)
        put += 1
    scene.recoveries.strike("the last of them was queued")
    scene.notes["put"] = put
    with suppress(AssertionError):
        until(lambda: observed.unreadable() >= put, 60 if scene.plant.name == "ours" else 15)
    scene.notes["dead_letters"] = letters = observed.unreadable()
    scene.expect(f"{put} unreadable entries, {letters} dead letters", letters == put)
    note_forgotten(scene)


def note_forgotten(scene: Scene) -> None:
    """What is leased, and still so later, nobody works on: how many entries that nobody can read, and events."""
    leases = seen(scene.plant).leases
    before = leases.entries("persist", "evaluate")
    scene.flow(FORGOTTEN_SECONDS)
    forgotten = {entry: before[entry] for entry in before.keys() & leases.entries("persist", "evaluate").keys()}
    scene.notes["forgotten_unreadable"] = sum(not ids for ids in forgotten.values())
    scene.notes["forgotten_neighbours"] = sum(map(len, forgotten.values()))


def other_versions(scene: Scene) -> None:
    """Messages as plain Dramatiq writes them, with more than we know, and for an actor that we do not have."""
    observed = scene.plant.observed
    plain, extended, unknown = (str(UUID(int=scene.rng.getrandbits(128), version=4)) for _ in range(3))
    messages = {
        plain: message("persist", plain),
        extended: message("persist", extended) | {"from_the_future": {"a": [1]}},
        unknown: message("no_such_actor", unknown),
    }
    messages[extended]["options"] = {"traceparent": "00-1", "retries": 0}
    for event_id, made in messages.items():
        observed.put("persist", made["message_id"], json.dumps(made, separators=(",", ":")).encode())
        scene.ledger.adopt(event_id)
    scene.doomed.add(unknown)
    scene.recoveries.strike("they were queued")
    until(lambda: not observed.holdings().underway.keys() & messages.keys(), 60)
    holdings = observed.holdings()
    scene.expect("a plain message is not stored", plain in holdings.stored)
    scene.expect("a message with unknown fields is not stored", extended in holdings.stored)
    scene.expect("a message for an unknown actor is not kept", unknown in holdings.dead)
    kept = until(lambda: observed.rows("SELECT message FROM dead_letters WHERE event_id = %s", unknown), 20)
    scene.notes["kept_whole"] = json.loads(bytes(kept[0][0]))["args"] == messages[unknown]["args"]
    scene.expect("the message for an unknown actor is not kept whole", scene.notes["kept_whole"])
    with misbehaving_webhook(scene):
        ours = until(lambda: waiting_notification(scene), 60)
    read = Message(**JSONEncoder().decode(ours))
    scene.expect("Dramatiq cannot read what we write", (read.queue_name, read.actor_name) == ("notify", "notify"))


@contextmanager
def misbehaving_webhook(scene: Scene) -> Iterator[None]:
    """The first channel answers 500 meanwhile."""
    server = scene.plant.webhooks[0].server
    server.behaviour = fake_http_server.answer(500)
    try:
        yield
    finally:
        server.behaviour = WELL


def waiting_notification(scene: Scene) -> bytes | None:
    """A message that waits for its retry: written whole, as every message is that is by itself."""
    client = scene.plant.observed.client
    waiting = client.zrange(f"{NAMESPACE}:notify.delayed", 0, 0)
    return client.hget(f"{NAMESPACE}:notify.msgs", waiting[0]) if waiting else None


def message(actor: str, event_id: str) -> dict[str, Any]:
    """A message of Dramatiq's own."""
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    event = {
        "event_id": event_id,
        "event_type": EVENT_TYPE,
        "source": "gate",
        "timestamp": moment,
        "payload": {"episode": event_id},
        "metadata": {},
        "received_at": moment,
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
        "One entry of the persist and evaluate queues in a hundred is noise.",
        undecodable,
        Size(1, 50_000),
        Size(1, 2_000),
    ),
    Fault(
        "deadly-event",
        "Every worker that has one certain event in hand is killed.",
        deadly,
        Size(1, 20_000, 200.0),
        Size(1, 2_000, 200.0),
    ),
    Fault(
        "other-versions",
        "Messages as plain Dramatiq writes them, with unknown fields, and for an unknown actor.",
        other_versions,
        Size(1, 5_000),
        Size(1, 2_000),
        plants=("ours",),
    ),
]

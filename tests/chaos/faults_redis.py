"""Redis dies, stops, hangs, fills up, or loses an answer."""

import time
from contextlib import suppress
from dataclasses import replace

import redis
from chaos.context import Fault, Scene, Size, go_on, kill_server, stop_process, stop_server
from chaos.observing import seen
from chaos.proxy import proxy
from chaos.recovery import Blow
from chaos.webhooks import WELL
from support import fake_http_server
from support.waiting import until

JUNK = b"x" * 100_000
JUNK_BYTES = 20_000_000
#: What tells requests apart: those that carry events, those on behalf of a stage's lease, and any.
REQUESTS = (b'"event_type"', b"persist|", b"evaluate|", b"notify|", b"")


def kill(scene: Scene) -> None:
    scene.repeat(lambda: scene.outage(scene.plant.redis, scene.rng.uniform(0, 0.5), kill_server))


def stop(scene: Scene) -> None:
    scene.outage(scene.plant.redis, 3 if scene.is_short else 12, stop_server)


class Freeze:
    """SIGSTOP for so many seconds, then SIGCONT."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, scene: Scene) -> None:
        pid = scene.plant.redis.pid
        stop_process(pid)
        try:
            scene.flow(self.seconds)
        finally:
            go_on(pid)
        scene.recoveries.strike("Redis goes on")
        scene.flow(2)


def fill(scene: Scene) -> None:
    """Junk fills Redis while a backlog waits; when it is gone, nobody does anything else."""
    workers = scene.plant.pids("worker")
    with redis.Redis.from_url(scene.plant.redis.url) as client:
        for pid in workers:
            stop_process(pid)
        try:
            scene.flow(2)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + JUNK_BYTES)
            with suppress(redis.OutOfMemoryError):
                while True:
                    client.rpush("junk", JUNK)
        finally:
            for pid in workers:
                go_on(pid)
        full_at = time.monotonic()
        scene.notes["used_percent"] = _used_percent(client)
        scene.flow(3 if scene.is_short else 10)
        expect_only_refusals(scene, full_at + 1.2, time.monotonic())
        client.delete("junk")
        scene.recoveries.strike("the junk is gone")
        scene.await_acceptance()
        client.config_set("maxmemory", 0)


def overflow(scene: Scene) -> None:
    """The workers are stopped, and what is accepted fills Redis."""
    with redis.Redis.from_url(scene.plant.redis.url) as client:
        workers = scene.plant.pids("worker")
        for pid in workers:
            stop_process(pid)
        try:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
            until(lambda: scene.ledger.kinds().get("503 full", 0) > 5 or _is_full(client), 60)
            full_at = time.monotonic()
            scene.flow(2 if scene.is_short else 10)
            expect_only_refusals(scene, full_at + 1.2, time.monotonic())
            scene.notes["used_percent"] = _used_percent(client)
        finally:
            for pid in workers:
                go_on(pid)
        scene.recoveries.strike("the workers go on")
        scene.await_acceptance()
        client.config_set("maxmemory", 0)


def kill_with_retries_waiting(scene: Scene) -> None:
    """Notifications wait for their retries when Redis dies."""
    first = scene.plant.webhooks[0]
    first.server.behaviour = fake_http_server.answer(500)
    observed = seen(scene.plant)
    scene.notes["delayed"] = until(lambda: (waiting := observed.delayed("notify")) >= 3 and waiting, 60)
    scene.outage(scene.plant.redis, 0.2, kill_server)
    first.server.behaviour = WELL


def drop_replies(scene: Scene) -> None:
    """Redis does what it was asked for, and its answer is lost on the way: each time another kind of request."""
    proxy = scene.plant.through

    def blow() -> Blow:
        known = proxy.dropped
        proxy.drop_replies(1, REQUESTS[len(scene.recoveries.blows) % len(REQUESTS)])
        with suppress(AssertionError):
            until(lambda: proxy.dropped > known, 3)
        return scene.recoveries.strike("a reply was dropped")

    scene.repeat(blow)
    proxy.drop_replies(0)
    scene.notes["dropped"] = proxy.dropped


def expect_only_refusals(scene: Scene, after: float, until: float) -> None:
    """A full Redis takes nothing, and says so."""
    during = [each.kind for each in list(scene.ledger.answers) if after <= each.at <= until]
    scene.notes["answers_while_full"] = {kind: during.count(kind) for kind in sorted(set(during))}
    scene.expect("accepted while full", "202" not in during)
    scene.expect("silent while full", bool(during))


def _is_full(client: redis.Redis) -> bool:
    return _used_percent(client) >= 99


def _used_percent(client: redis.Redis) -> float:
    memory = client.info("memory")
    return round(100 * memory["used_memory"] / (memory["maxmemory"] or 1), 1)


def _everysec(fault: Fault) -> Fault:
    what = f"{fault.what.removesuffix('.')}, with `appendfsync everysec`."
    return replace(fault, name=f"{fault.name}-everysec", what=what, options={"fsync": "everysec"})


_KILL = Fault(
    "redis-sigkill",
    "Redis is killed, and started again within half a second.",
    kill,
    Size(20, 40_000),
    Size(2, 2_000),
    recovers_within=20,
    counted_from="Redis is back",
    repeat=True,
)
FAULTS = [
    _KILL,
    _everysec(_KILL),
    Fault(
        "redis-stopped",
        "Redis is stopped for 12 s.",
        stop,
        Size(1, 10_000),
        Size(1, 2_000),
        counted_from="Redis is back",
        repeat=True,
    ),
    *(
        Fault(
            f"redis-frozen-{seconds}",
            f"Redis hangs (SIGSTOP) for {seconds} s.",
            Freeze(seconds),
            Size(1, 10_000),
            Size(1, 2_000),
            counted_from="Redis goes on",
            repeat=True,
        )
        for seconds in (7, 12)
    ),
    Fault(
        "redis-full",
        "Junk fills Redis up to maxmemory while a backlog waits, and goes away again.",
        fill,
        Size(1, 10_000),
        Size(1, 2_000),
        counted_from="the junk is gone",
    ),
    Fault(
        "redis-overflow",
        "The workers stand still until what is accepted fills Redis up to maxmemory.",
        overflow,
        Size(1, 20_000, 2_000),
        Size(1, 4_000, 2_000),
        counted_from="the workers go on",
    ),
    Fault(
        "redis-sigkill-retries",
        "Redis is killed while notifications wait for their retries.",
        kill_with_retries_waiting,
        Size(1, 3_000, 100.0),
        Size(1, 1_000, 100.0),
        recovers_within=20,
        counted_from="Redis is back",
        repeat=True,
    ),
    Fault(
        "redis-reply-dropped",
        "Redis does what it was asked for, and the answer is lost.",
        drop_replies,
        Size(50, 20_000),
        Size(5, 2_000),
        options={"through": proxy},
        recovers_within=20,
        repeat=True,
    ),
]

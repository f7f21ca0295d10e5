"""Faults of Redis: it is killed, stopped, suspended or full, or a reply is lost."""

import time
from contextlib import suppress
from dataclasses import replace

import redis
from chaos.context import Context, Fault, Size, kill_server, resume_process, stop_server, suspend_process
from chaos.proxy import proxy
from chaos.recovery_tracker import Injection
from chaos.server_state import state_of
from chaos.webhook import HEALTHY
from support import fake_http_server
from support.waiting import until

JUNK = b"x" * 100_000
JUNK_BYTES = 20_000_000
#: Bytes that a request contains if its reply is dropped: an event, a lease of one stage, or `b""` (any request).
REQUESTS = (b'"event_type"', b"persist|", b"evaluate|", b"notify|", b"")


def kill(context: Context) -> None:
    context.repeat(lambda: context.outage(context.system.redis, context.rng.uniform(0, 0.5), kill_server))


def stop(context: Context) -> None:
    context.outage(context.system.redis, 3 if context.is_short else 12, stop_server)


class Suspend:
    """Fault that suspends Redis (SIGSTOP) for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, context: Context) -> None:
        pid = context.system.redis.pid
        suspend_process(pid)
        try:
            context.wait(self.seconds)
        finally:
            resume_process(pid)
        context.recoveries.record_injection("Redis is resumed")
        context.wait(2)


def fill(context: Context) -> None:
    """Fill Redis with junk during a backlog, and expect that the API rejects events until the junk is deleted."""
    workers = context.system.pids("worker")
    with redis.Redis.from_url(context.system.redis.url) as client:
        for pid in workers:
            suspend_process(pid)
        try:
            context.wait(2)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + JUNK_BYTES)
            with suppress(redis.OutOfMemoryError):
                while True:
                    client.rpush("junk", JUNK)
        finally:
            for pid in workers:
                resume_process(pid)
        full_at = time.monotonic()
        context.notes["used_percent"] = _used_percent(client)
        context.wait(3 if context.is_short else 10)
        expect_only_rejections(context, full_at + 1.2, time.monotonic())
        client.delete("junk")
        context.recoveries.record_injection("the junk is deleted")
        context.await_acceptance()
        client.config_set("maxmemory", 0)


def overflow(context: Context) -> None:
    """Suspend the workers until events fill Redis, and expect that the API rejects events until the workers resume."""
    with redis.Redis.from_url(context.system.redis.url) as client:
        workers = context.system.pids("worker")
        for pid in workers:
            suspend_process(pid)
        try:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
            until(lambda: context.client.kinds().get("503 full", 0) > 5 or _is_full(client), 60)
            full_at = time.monotonic()
            context.wait(2 if context.is_short else 10)
            expect_only_rejections(context, full_at + 1.2, time.monotonic())
            context.notes["used_percent"] = _used_percent(client)
        finally:
            for pid in workers:
                resume_process(pid)
        context.recoveries.record_injection("the workers are resumed")
        context.await_acceptance()
        client.config_set("maxmemory", 0)


def kill_with_retries_waiting(context: Context) -> None:
    """Kill and restart Redis while notifications to a failing channel wait for their retries."""
    first = context.system.webhooks[0]
    first.server.behaviour = fake_http_server.answer(500)
    state = state_of(context.system)
    context.notes["delayed"] = until(lambda: (delayed := state.delayed("notify")) >= 3 and delayed, 60)
    context.outage(context.system.redis, 0.2, kill_server)
    first.server.behaviour = HEALTHY


def drop_replies(context: Context) -> None:
    """Drop the reply to one request in each injection; the injections use the entries of `REQUESTS` in turn."""
    proxy = context.system.proxy

    def inject() -> Injection:
        dropped_before = proxy.dropped
        proxy.drop_replies(1, REQUESTS[len(context.recoveries.injections) % len(REQUESTS)])
        with suppress(AssertionError):
            until(lambda: proxy.dropped > dropped_before, 3)
        return context.recoveries.record_injection("a reply was dropped")

    context.repeat(inject)
    proxy.drop_replies(0)
    context.notes["dropped"] = proxy.dropped


def expect_only_rejections(context: Context, after: float, until: float) -> None:
    """Expect at least one result of a request, and no accepted request, between two monotonic times."""
    kinds = [each.kind for each in list(context.client.responses) if after <= each.at <= until]
    context.notes["responses_while_full"] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    context.expect("the API accepted events while Redis was full", "202" not in kinds)
    context.expect("no request ended while Redis was full", bool(kinds))


def _is_full(client: redis.Redis) -> bool:
    return _used_percent(client) >= 99


def _used_percent(client: redis.Redis) -> float:
    memory = client.info("memory")
    return round(100 * memory["used_memory"] / (memory["maxmemory"] or 1), 1)


def _everysec(fault: Fault) -> Fault:
    description = f"{fault.description.removesuffix('.')}, with `appendfsync everysec`."
    return replace(fault, name=f"{fault.name}-everysec", description=description, options={"fsync": "everysec"})


_KILL = Fault(
    "redis-sigkill",
    "Redis is killed and restarted within half a second.",
    kill,
    Size(20, 40_000),
    Size(2, 2_000),
    recovers_within=20,
    counted_from="Redis was restarted",
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
        counted_from="Redis was restarted",
        repeat=True,
    ),
    *(
        Fault(
            f"redis-suspended-{seconds}",
            f"Redis is suspended (SIGSTOP) for {seconds} s.",
            Suspend(seconds),
            Size(1, 10_000),
            Size(1, 2_000),
            counted_from="Redis is resumed",
            repeat=True,
        )
        for seconds in (7, 12)
    ),
    Fault(
        "redis-full",
        "Junk data fills Redis up to `maxmemory` during a backlog, and is then deleted.",
        fill,
        Size(1, 10_000),
        Size(1, 2_000),
        counted_from="the junk is deleted",
    ),
    Fault(
        "redis-overflow",
        "The workers are suspended until accepted events fill Redis up to `maxmemory`.",
        overflow,
        Size(1, 20_000, 2_000),
        Size(1, 4_000, 2_000),
        counted_from="the workers are resumed",
    ),
    Fault(
        "redis-sigkill-retries",
        "Redis is killed while notifications wait for their retries.",
        kill_with_retries_waiting,
        Size(1, 3_000, 100.0),
        Size(1, 1_000, 100.0),
        recovers_within=20,
        counted_from="Redis was restarted",
        repeat=True,
    ),
    Fault(
        "redis-reply-dropped",
        "Redis executes a request, and its reply is lost.",
        drop_replies,
        Size(50, 20_000),
        Size(5, 2_000),
        options={"proxy_factory": proxy},
        recovers_within=20,
        repeat=True,
    ),
]

"""Faults in which a rule, a channel or a client needs far more resources than the others."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import httpx
from chaos import neighbours
from chaos.context import Context, Fault, Size, percentile
from chaos.faults_channels import record_delays
from chaos.neighbours import NEIGHBOUR, rule
from chaos.server_state import state_of
from support import fake_http_server
from support.waiting import until

from rules.conditions.fields import MAX_VALUES

Neighbour = Callable[[Context], AbstractContextManager[None]]
#: Maximum p99 of the response times of normal traffic beside a neighbour.
MAX_RESPONSE_P99_SECONDS = 0.25
#: Maximum p95 of the delay of alerts beside a neighbour, from the recording of an anomaly to its alert.
MAX_ALERT_P95_SECONDS = 1.0
#: Maximum memory of Redis that a neighbour may add.
MAX_REDIS_GROWTH_BYTES = 200_000_000
#: Maximum time of the change of a rule beside slow queries.
MAX_CHANGE_SECONDS = 1.0
SLOW_SECONDS, DEAD_CHANNELS = 2.0, 20


class NeighbourFault:
    """Fault that measures normal traffic first alone, and then beside a neighbour, for the same time."""

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour

    def __call__(self, context: Context) -> None:
        seconds = 6.0 if context.is_short else 20.0
        alone = _p99(context, seconds)
        memory = _redis_bytes(context)
        with self.neighbour(context):
            beside = _p99(context, seconds)
            growth = _redis_bytes(context) - memory
        context.notes |= {"p99_alone": alone, "p99_beside": beside, "redis_growth_bytes": growth}
        if context.system.name == "stock":
            return
        context.expect(
            f"p99 beside the neighbour: {beside} s", beside is not None and beside < MAX_RESPONSE_P99_SECONDS
        )
        context.expect(f"Redis grew by {growth} bytes", growth < MAX_REDIS_GROWTH_BYTES)
        _, second = context.system.webhooks
        alerts = state_of(context.system).alerts()
        with contextlib.suppress(AssertionError):
            until(lambda: alerts.keys() <= set(second.received_counts()), 10)
        p95 = record_delays(context, second, alerts)
        context.expect(f"p95 of the delay of alerts: {p95} s", p95 is not None and p95 < MAX_ALERT_P95_SECONDS)


def _p99(context: Context, seconds: float) -> float | None:
    """Return the p99 of the response times of normal traffic during the next `seconds`."""
    started = time.monotonic()
    context.wait(seconds)
    return percentile(context.client.latencies(started, time.monotonic()), 0.99)


def _redis_bytes(context: Context) -> int:
    state = getattr(context.system, "state", None)
    return int(state.client.info("memory")["used_memory"]) if state else 0


@contextmanager
def noisy_rule(context: Context) -> Iterator[None]:
    condition = {"type": "threshold", "operator": ">=", "value": 1}
    with neighbours.active_rule(context, rule("noisy", condition)), neighbours.traffic(context, 1_000):
        yield


@contextmanager
def huge_rule(context: Context) -> Iterator[None]:
    """Add a rule with the maximum number of values in two filters; one value more must be rejected."""

    def huge(values: int) -> dict[str, object]:
        names = [f"{NEIGHBOUR}-{number}" for number in range(values)]
        filters = {"event_type": [NEIGHBOUR, *names[1:]], "source": [NEIGHBOUR, *names[1:]]}
        return rule("huge", {"type": "threshold", "operator": ">", "value": 10_000, "filters": filters})

    status = httpx.post(f"{context.system.url}/rules", json=huge(MAX_VALUES + 1)).status_code
    context.expect(f"status of a rule with too many values: {status}", status == 422)
    with neighbours.active_rule(context, huge(MAX_VALUES)), neighbours.traffic(context, 400):
        yield


@contextmanager
def greedy_rule(context: Context) -> Iterator[None]:
    """Count all events of a day in one bucket; after the deletion of the rule, its keys must be deleted in 1 s."""
    condition = {"type": "zscore", "bucket_seconds": 86_400, "baseline_buckets": 2, "threshold": 3}
    with neighbours.traffic(context, 2_000):
        with neighbours.active_rule(context, rule("greedy", condition)) as rule_id:
            yield
        deleted_at, client = time.monotonic(), state_of(context.system).client
        with contextlib.suppress(AssertionError):
            until(lambda: not any(client.scan_iter(f"eventpulse:*{rule_id}*", count=1_000)), 10)
        context.notes["keys_deleted_after_seconds"] = round(time.monotonic() - deleted_at, 2)
        context.expect("the keys of a deleted rule remain", not any(client.scan_iter(f"eventpulse:*{rule_id}*")))


@contextmanager
def slow_channel(context: Context) -> Iterator[None]:
    ok = fake_http_server.answer(200, "ok")
    condition = {"type": "threshold", "operator": ">=", "value": 1}
    with (
        neighbours.channels(context, [lambda server: server.delayed(SLOW_SECONDS, ok)]),
        neighbours.active_rule(context, rule("slow", condition)),
        neighbours.traffic(context, 100),
    ):
        yield


@contextmanager
def dead_channels(context: Context) -> Iterator[None]:
    with neighbours.channels(context, [lambda server: server.hang] * DEAD_CHANNELS):
        yield


@contextmanager
def idle_sockets(context: Context) -> Iterator[None]:
    with neighbours.sockets(context, 2_100):
        yield


@contextmanager
def slow_readers(context: Context) -> Iterator[None]:
    with neighbours.sockets(context, 20, neighbours.request_head(context, "/events?limit=1000")):
        yield


@contextmanager
def held_bodies(context: Context) -> Iterator[None]:
    with neighbours.sockets(context, 150, neighbours.body_head(context, 5_000_000)):
        yield


@contextmanager
def heavy_bodies(context: Context) -> Iterator[None]:
    rng = random.Random(1)
    with neighbours.requests(context, 2, lambda connection: rng.choice(neighbours.HEAVY_BODIES)(connection)):
        yield


@contextmanager
def heavy_queries(context: Context) -> Iterator[None]:
    """Let 60 clients read a locked table and leave after 0.3 s; the change of a rule must take less than 1 s."""
    state = state_of(context.system)
    with state.sql() as cursor:
        cursor.execute("BEGIN; LOCK TABLE throughput IN ACCESS EXCLUSIVE MODE")
        with neighbours.requests(context, 60, partial(neighbours.leave, "/throughput", 0.3)):
            started = time.monotonic()
            condition = {"type": "threshold", "operator": ">", "value": 10_000}
            with neighbours.active_rule(context, rule("changed", condition)):
                changed = time.monotonic() - started
                yield
        cursor.execute("ROLLBACK")
    context.notes["rule_change_seconds"] = round(changed, 2)
    context.expect(f"the change of a rule took {changed:.1f} s", changed < MAX_CHANGE_SECONDS)


#: Description, neighbour and systems of each fault.
NEIGHBOURS: dict[str, tuple[str, Neighbour, tuple[str, ...]]] = {
    "noisy-rule": ("A rule without a cooldown fires for 1,000 events/s.", noisy_rule, ("eventpulse",)),
    "huge-rule": ("A rule has filters with 1,000 values each.", huge_rule, ("eventpulse",)),
    "greedy-rule": ("A rule counts 2,000 events/s in a bucket of one day.", greedy_rule, ("eventpulse",)),
    "slow-channel": ("A channel that needs 2 s a message gets 100 alerts/s.", slow_channel, ("eventpulse",)),
    "dead-channels": ("20 further channels do not respond.", dead_channels, ("eventpulse",)),
    "idle-sockets": ("One client opens 2,100 connections and sends nothing.", idle_sockets, ("eventpulse", "stock")),
    "slow-readers": ("20 clients request a long page and do not read it.", slow_readers, ("eventpulse",)),
    "held-bodies": ("150 clients announce a body of 5 MB and do not send it.", held_bodies, ("eventpulse", "stock")),
    "heavy-bodies": ("Two clients send bodies that are expensive to decode.", heavy_bodies, ("eventpulse", "stock")),
    "heavy-queries": ("60 clients send slow queries and leave after 0.3 s.", heavy_queries, ("eventpulse",)),
}

FAULTS = [
    Fault(
        f"neighbour-{name}",
        description,
        NeighbourFault(neighbour),
        Size(1, 8_000, 200.0),
        Size(1, 2_400, 200.0),
        systems,
        idle_within=150,
    )
    for name, (description, neighbour, systems) in NEIGHBOURS.items()
]

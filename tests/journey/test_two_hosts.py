"""Tests that workers on two hosts have the same results as one worker, even if a host loses its network."""

from collections.abc import Iterator

import msgspec
import pytest
import redis
from support.network_hosts import EVALUATED, STORES, Host, host
from support.pipeline_factory import accept, anomalies, event, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.transport import queues
from eventpulse.settings import ConnectedSettings
from models.database import connection
from models.delivery import Delivery
from models.event import Event

MANY = {"condition": {"type": "threshold", "operator": ">=", "value": 150}}
#: Rule that fires only if the events of both hosts are counted together.
EVERY = {"name": "Every order", "condition": {"type": "threshold", "operator": ">=", "value": 2_000}}


@pytest.fixture
def client(redis_url: str, redis_client: redis.Redis, empty_database: str) -> redis.Redis:
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")
    rule(**MANY)
    return redis_client


@pytest.fixture
def hosts(client: redis.Redis, redis_url: str, empty_database: str) -> Iterator[tuple[Host, Host]]:
    """Start two hosts with a worker on each."""
    with host(redis_url, empty_database) as first, host(redis_url, empty_database) as second:
        first.worker = started_worker(client, first)
        second.worker = started_worker(client, second)
        yield first, second


def started_worker(client: redis.Redis, on: Host) -> str:
    """Start a worker on a host and return the worker's id."""
    before = workers(client)
    on.start_worker()
    (new,) = until(lambda: workers(client) - before, 20)
    return new


def workers(client: redis.Redis) -> set[str]:
    """Return the ids of the workers with a heartbeat."""
    leases = client.zrange("eventpulse:__heartbeats__", 0, -1)
    return {lease.decode().split("|")[1].split(".")[0] for lease in leases}


def has_leases(client: redis.Redis, host: Host) -> bool:
    """Return whether the worker of a host has leased messages."""
    return bool(client.keys(f"eventpulse:__acks__.*|{host.worker}.*"))


def send(count: int) -> set[str]:
    """Enqueue `count` new events and return their ids."""
    events = [event() for _ in range(count)]
    accept(*events)
    return {msgspec.json.decode(each)["event_id"] for each in events}


def everything_is_done(client: redis.Redis) -> bool:
    return all(state.depth == 0 and state.dead == 0 for state in queues.depths(broker).values())


def stored() -> list[str]:
    with connection():
        return [str(event_id) for (event_id,) in Event.select(Event.event_id).tuples()]


def delivery_statuses() -> list[str]:
    with connection():
        return [delivery.status for delivery in Delivery.select()]


def test_a_threshold_over_two_hosts_fires_exactly_once(client: redis.Redis, hosts: tuple[Host, Host]) -> None:
    rule(**EVERY)
    sent: set[str] = set()

    def both_have_processed_events() -> bool:
        sent.update(send(250))
        return len(sent) >= 2_000 and all(host.postgres.seen[STORES] and host.redis.seen[EVALUATED] for host in hosts)

    until(both_have_processed_events, 20)
    until(lambda: everything_is_done(client), 20)
    assert workers(client) == {host.worker for host in hosts}
    assert sorted(stored()) == sorted(sent)
    assert sorted(anomaly.rule_name for anomaly in anomalies()) == ["Every order", "Many orders"]


def test_a_host_without_network_loses_no_event_and_repeats_no_alert(
    client: redis.Redis, hosts: tuple[Host, Host]
) -> None:
    failing, remaining = hosts
    sent = send(250)
    until(lambda: everything_is_done(client), 20)
    assert len(anomalies()) == 1
    sent |= send(10_000)
    until(lambda: has_leases(client, failing))
    failing.disconnect()
    sent |= send(250)
    requeued = 0

    def recovered() -> bool:
        nonlocal requeued
        again, _ = broker.recover(timeout_ms=3_000)  # workers also recover leases, but after a longer timeout
        requeued += again
        return everything_is_done(client)

    until(recovered, 20)
    assert requeued > 0
    assert workers(client) == {remaining.worker}
    assert sorted(stored()) == sorted(sent)
    assert len(anomalies()) == 1
    assert delivery_statuses() == ["delivered", "delivered"]

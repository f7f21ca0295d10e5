"""Tests of the rejection of messages before Redis is full."""

from support.redis_config import configured

from actors.transport.messages import make_bundles, make_records
from actors.transport.redis_broker import AcceptLimits, RedisBroker


def accept(broker: RedisBroker, count: int, max_backlog: int = 100) -> int:
    bundles = make_bundles("persist", make_records([b"{}"] * count, {}), 250)
    return broker.accept("persist", bundles, AcceptLimits(["persist", "evaluate"], max_backlog, memory_percent=80))


def test_messages_are_rejected_at_the_backlog_limit(broker: RedisBroker) -> None:
    assert accept(broker, 5, max_backlog=6) == 5
    assert accept(broker, 5, max_backlog=6) == 5
    assert accept(broker, 1, max_backlog=6) == -1
    assert broker.client.get("eventpulse:persist.count") == b"10"


def test_the_backlog_includes_the_queues_that_follow(broker: RedisBroker) -> None:
    broker.run_script("enqueue", "evaluate", "5*id", b"a bundle of five", 0)
    assert accept(broker, 1, max_backlog=5) == -1
    broker.run_script("enqueue", "notify", "5*id", b"a bundle of five", 0)
    assert accept(broker, 1, max_backlog=6) == 1


def test_messages_are_rejected_at_the_memory_limit(broker: RedisBroker) -> None:
    used = int(broker.client.info("memory")["used_memory"])
    with configured(broker.client, maxmemory=used * 10):
        assert accept(broker, 1) == 1
    broker.client.delete("eventpulse:memory")  # the memory check caches its result in this key for a second
    with configured(broker.client, maxmemory=int(used * 1.2)):
        assert accept(broker, 1) == -2

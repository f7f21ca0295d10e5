"""Ingest stops before Redis does."""

from itertools import chain

from support.redis_config import configured

from actors.transport.messages import bundles, line
from actors.transport.redis_broker import RedisBroker


def test_the_backlog_has_a_high_water_mark(broker: RedisBroker) -> None:
    def accept(count: int, most: int) -> int:
        messages = bundles("persist", [line(b"{}", None)] * count, 250)
        return int(broker.run_script("accept", "persist", most, 80, *chain(*messages)))

    assert accept(5, most=6) == 5
    assert accept(5, most=6) == 5
    assert accept(1, most=6) == -1
    assert broker.client.get("eventpulse:persist.count") == b"10"


def test_a_full_redis_takes_no_more_events(broker: RedisBroker) -> None:
    def accept() -> int:
        broker.client.delete("eventpulse:memory")
        messages = chain(*bundles("persist", [line(b"{}", None)], 250))
        return int(broker.run_script("accept", "persist", 100, 80, *messages))

    used = int(broker.client.info("memory")["used_memory"])
    with configured(broker.client, maxmemory=used * 10):
        assert accept() == 1
    with configured(broker.client, maxmemory=int(used * 1.2)):
        assert accept() == -2

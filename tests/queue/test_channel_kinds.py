"""Tests of channels whose kind this version does not support."""

import pytest
import redis
from support.broker_factory import StartWorker
from support.notifier_factory import ScriptedNotifier, bind_notifier, enable_only
from support.pipeline_factory import accept, anomalies, event, rule
from support.waiting import until

from actors import runtime
from actors.channels.wake import wake
from models.database import connection
from models.delivery import Delivery
from notifiers.base import Receipt


def delivery() -> Delivery:
    """Return the only delivery in PostgreSQL."""
    with connection():
        found: Delivery = Delivery.get()
        return found


def test_a_delivery_to_an_unsupported_kind_waits_for_a_worker_that_supports_it(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = enable_only("console")
    monkeypatch.delitem(runtime.current().notifiers, "console")
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    reason = "this version does not support channels of the kind console"
    until(lambda: anomalies() and delivery().last_error == reason, 30)
    assert (delivery().status, delivery().attempts) == ("pending", 0)
    bind_notifier("console", ScriptedNotifier(Receipt("ok")))
    wake([channel.channel_id])
    until(lambda: delivery().status == "delivered", 30)

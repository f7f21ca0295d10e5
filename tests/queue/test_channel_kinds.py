"""Tests of channels whose kind this version does not support."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import redis
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, rule
from support.waiting import until

from actors import runtime
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery
from notifiers.base import Notification, Receipt


class AcceptingNotifier:
    """Notifier that accepts every notification."""

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        return Receipt("ok")


def delivery() -> Delivery:
    """Return the only delivery in PostgreSQL."""
    with connection():
        found: Delivery = Delivery.get()
        return found


def test_a_delivery_to_an_unsupported_kind_waits_for_a_worker_that_supports_it(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    supported = runtime.current()
    with connection():
        Channel.update(enabled=False).where(Channel.kind == "live").execute()
    runtime.bind(replace(supported, notifiers={}))
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    reason = "this version does not support channels of the kind console"
    until(lambda: anomalies() and delivery().last_error == reason, 30)
    assert delivery().status == "pending"
    runtime.bind(replace(supported, notifiers={"console": AcceptingNotifier()}))
    until(lambda: delivery().status == "delivered", 30)

"""Tests of the pipeline from the queue to the alert: persist, evaluate and notify."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis
from marshmallow import fields
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors.pipeline import evidence
from actors.recovery import dead_letters
from actors.rule_state import rulebook
from models import window_events
from models.database import connection
from models.delivery import Delivery
from models.event import Event
from models.rule import Rule
from rules.conditions import CONDITIONS
from rules.conditions.base import ConditionSchema
from rules.scope import Scope


def test_an_event_is_stored_as_it_was_sent(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    sent = event(payload={"amount": 1.5, "items": [1, "two", None]}, metadata={"region": "eu"})
    accept(sent)
    start_worker()
    until(lambda: idle(pipeline))
    wanted = msgspec.json.decode(sent)
    with connection():
        stored = Event.get_by_id(wanted["event_id"])
    assert (stored.event_type, stored.source) == ("order", "shop")
    assert stored.payload == wanted["payload"]
    assert stored.metadata == wanted["metadata"]
    assert stored.timestamp.isoformat().replace("+00:00", "Z") == wanted["timestamp"]


def test_an_event_sent_three_times_is_stored_and_counted_once(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    rule()
    again = event()
    accept(again, again)
    accept(again, event())
    start_worker()
    until(lambda: idle(pipeline))
    with connection():
        assert Event.select().count() == 2
    assert anomalies() == []
    accept(event(), event())
    until(lambda: idle(pipeline))
    (found,) = anomalies()
    assert found.evidence["count"] == 3


def test_an_anomaly_has_evidence_and_is_sent_to_every_channel(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    written = rule(condition={"type": "threshold", "operator": ">", "value": 2, "group_by": ["source"]})
    subscription = pipeline.pubsub()
    subscription.subscribe("eventpulse:live")
    accept(*[event(seconds=n / 100) for n in range(3)], request_id="the-request")
    start_worker()
    until(lambda: idle(pipeline) and anomalies())
    (found,) = anomalies()
    assert found.rule_id == written.rule_id
    assert msgspec.json.decode(found.group_key) == {"source": "shop"}
    assert found.request_id == "the-request"
    assert found.evidence["count"] == 3
    assert len(found.evidence["samples"]) == 3
    assert "Many orders" in found.message
    with connection():
        deliveries = list(Delivery.select())
    assert {(delivery.channel_name, delivery.status) for delivery in deliveries} == {
        ("console", "delivered"),
        ("live", "delivered"),
    }
    frame = until(lambda: subscription.get_message(ignore_subscribe_messages=True))
    subscription.close()
    assert msgspec.json.decode(frame["data"])["anomaly_id"] == str(found.anomaly_id)


def test_an_alert_does_not_wait_for_slow_evidence(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "SELECT pg_sleep(20), %s::text, %s::int, %s::int"
    monkeypatch.setattr(evidence, "BUDGET_MS", 50)
    monkeypatch.setattr(window_events, "window_query", lambda *_: (slow, ["", 0, 0]))
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: idle(pipeline) and anomalies())
    (found,) = anomalies()
    assert [sample["event_id"] for sample in found.evidence["samples"]] == [str(found.event_id)]
    assert "count" not in found.evidence
    assert "more than 2" in found.message
    with connection():
        assert {delivery.status for delivery in Delivery.select()} == {"delivered"}


def test_a_redelivered_event_changes_nothing(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    """The same events are enqueued twice, with the same effect as a worker crash before the acknowledgement."""
    rule()
    events = [event(seconds=n / 100) for n in range(3)]
    accept(*events)
    worker = start_worker()
    until(lambda: idle(pipeline) and anomalies())
    accept(*events)
    until(lambda: idle(pipeline))
    worker.stop(5_000)
    assert len(anomalies()) == 1
    with connection():
        assert [delivery.attempts for delivery in Delivery.select()] == [1, 1]


def test_a_changed_rule_is_in_force_for_the_next_events(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    row = rule(cooldown_seconds=0)
    start_worker()
    accept(event(), event())
    until(lambda: idle(pipeline))
    assert anomalies() == []
    with connection():
        assert row.change(condition={"type": "threshold", "operator": ">", "value": 0})
    rulebook.publish()
    accept(event())
    until(lambda: idle(pipeline))
    assert [found.rule_version for found in anomalies()] == [2]
    with connection():
        Rule.get_by_id(row.rule_id).remove()
    rulebook.publish()
    accept(event())
    until(lambda: idle(pipeline))
    assert len(anomalies()) == 1


class Raising:
    """Condition whose evaluation raises an exception."""

    windowed = False
    scope = Scope.of({}, [])

    def evaluate(self, event: object, group_suffix: str) -> None:
        raise ZeroDivisionError("division by zero")


class RaisingSchema(ConditionSchema):
    type = fields.String()

    def build(self, values: object) -> Any:
        return Raising()


def test_a_rule_that_raises_is_suspended_with_its_reason_and_others_continue(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONDITIONS, "raising", RaisingSchema)
    raising = rule(name="Raising", condition={"type": "raising"})
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: idle(pipeline) and anomalies())
    with connection():
        suspended = Rule.get_by_id(raising.rule_id)
    assert (suspended.status, suspended.error) == ("error", "ZeroDivisionError: division by zero")
    assert [found.rule_name for found in anomalies()] == ["Many orders"]


def test_an_event_that_postgresql_rejects_becomes_a_dead_letter_alone(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    poison = event().replace(b'"amount":12.5', b'"amount":"\\u0000"')
    good = [event() for _ in range(20)]
    accept(*good[:10], poison, *good[10:], request_id="the-request")
    start_worker()
    until(lambda: idle(pipeline), 30)
    with connection():
        assert Event.select().count() == 20
    assert dead_letters.reconcile() == 1
    (letter,) = dead_letters.list_(10)
    assert letter.event_id == UUID(msgspec.json.decode(poison)["event_id"])
    assert letter.request_id == "the-request"
    assert "DataError" in letter.traceback
    assert letter.attempts == 4


def test_a_replayed_dead_letter_has_no_history(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    accept(event().replace(b'"shop"', b'"\\u0000"'))
    worker = start_worker()
    until(lambda: idle(pipeline), 30)
    dead_letters.reconcile()
    worker.stop(5_000)
    (letter,) = dead_letters.list_(10)
    assert dead_letters.replay([letter.dead_letter_id]) == (1, [])
    assert dead_letters.count() == 0
    (queued,) = pipeline.hvals("eventpulse:persist.msgs")
    options = msgspec.json.decode(queued)["options"]
    assert "retries" not in options
    assert "traceback" not in options

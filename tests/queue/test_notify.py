"""Tests of the delivery of anomalies to channels that are healthy, slow, unresponsive or failing."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import peewee
import pytest
import redis
from support import fake_http_server
from support.broker_factory import StartWorker
from support.fake_http_server import OK, answer
from support.notifier_factory import BlockingNotifier, ScriptedNotifier, add_webhook, bind_notifier, enable_only
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.channels import attempts
from actors.channels.dispatcher import Dispatcher
from actors.channels.limits import ChannelLimits
from actors.channels.notification import compose
from actors.channels.wake import wake
from actors.pipeline import notify
from actors.recovery import dead_letters, overdue_deliveries
from actors.transport.middleware import ShutdownRequested
from eventpulse.settings import ConnectedSettings
from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.channel_notice import ChannelNotice
from models.channel_state import ChannelState
from models.database import connection
from models.delivery import Delivery
from models.delivery_queue import OVERDUE_SECONDS
from notifiers.base import Receipt, TryAgain, Undeliverable

OVERDUE = timedelta(seconds=OVERDUE_SECONDS + 1)
#: Pauses of a test: a fraction of the real pauses.
SHORT = ChannelLimits(
    local_batch=1,
    first_pause_seconds=0.02,
    max_pause_seconds=0.1,
    min_throttle_seconds=0.05,
    digest_seconds=0.0,
    digest_deliveries=5,
)


@pytest.fixture
def short_pauses(pipeline: redis.Redis, redis_url: str, empty_database: str) -> Iterator[redis.Redis]:
    """Connect the actors with short pauses; return a Redis client."""
    settings = ConnectedSettings(redis_url=redis_url, database_url=empty_database)
    bound = runtime.setup(settings, name="tests", limits=SHORT)
    yield pipeline
    bound.dispatcher.stop(15)


@pytest.fixture
def server() -> Iterator[fake_http_server.Server]:
    with fake_http_server.running() as server:
        yield server


@pytest.fixture
def blocking() -> Iterator[BlockingNotifier]:
    notifier = BlockingNotifier()
    yield notifier
    notifier.release.set()


def each_event_fires(severity: str, **fields: Any) -> None:
    """Store a rule that fires for each event of the type `severity`."""
    condition = {"type": "threshold", "filters": {"event_type": severity}, "operator": ">=", "value": 1}
    rule(
        name=f"Every {severity}",
        severity=severity,
        cooldown_seconds=0,
        condition=condition | {"group_by": ["payload.n"]},
        **fields,
    )


def events(severity: str, *numbers: int) -> list[bytes]:
    return [event(event_type=severity, payload={"n": n}) for n in numbers]


def announce_through(notifier: Any, start_worker: StartWorker, client: redis.Redis, **rule_fields: Any) -> Delivery:
    """Cause an anomaly, announce it through this notifier only, and return its delivery after it is settled."""
    enable_only("console")
    bind_notifier("console", notifier)
    rule(**rule_fields)
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: anomalies() and idle(client), 30)
    return the_delivery()


def the_delivery() -> Delivery:
    """Return the only delivery in PostgreSQL."""
    with connection():
        delivery: Delivery = Delivery.get()
        return delivery


def statuses(channel: str) -> list[str]:
    """Return the statuses of all deliveries to the channel."""
    with connection():
        return [delivery.status for delivery in Delivery.select().where(Delivery.channel_name == channel)]


def state(channel: Channel) -> ChannelState | None:
    with connection():
        return ChannelState.get_or_none(ChannelState.channel_id == channel.channel_id)


def texts(server: fake_http_server.Server) -> list[str]:
    """Return the text of each message that the server has received."""
    return [str(received.json()["text"]) for received in server.received]


def test_a_receipt_is_recorded_with_its_reference(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    delivery = announce_through(ScriptedNotifier(Receipt("200 ok", "1700000000.000100")), start_worker, pipeline)
    assert (delivery.status, delivery.receipt, delivery.reference) == ("delivered", "200 ok", "1700000000.000100")
    assert delivery.attempts == 1


def test_a_notification_has_the_runbook_of_its_rule(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = ScriptedNotifier(Receipt("ok"))
    announce_through(notifier, start_worker, pipeline, runbook_url="https://wiki.example/orders")
    assert notifier.sent[0].runbook_url == "https://wiki.example/orders"


def test_a_busy_channel_is_retried_after_the_requested_time(
    short_pauses: redis.Redis, start_worker: StartWorker
) -> None:
    busy = TryAgain("busy", after_seconds=0.3)
    notifier = ScriptedNotifier(busy, Receipt("ok"))
    started = time.monotonic()
    delivery = announce_through(notifier, start_worker, short_pauses)
    assert (delivery.status, delivery.attempts, delivery.receipt) == ("delivered", 2, "ok")
    assert time.monotonic() - started >= 0.3


def test_a_channel_that_rejects_is_not_retried_and_counts_as_failing(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    delivery = announce_through(ScriptedNotifier(Undeliverable("no such webhook")), start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("rejected", 1, "no such webhook")
    with connection():
        assert ChannelState.get().failing_since


def test_retries_have_no_limit_but_the_age_of_the_delivery(
    short_pauses: redis.Redis, start_worker: StartWorker
) -> None:
    enable_only("console")
    notifier = ScriptedNotifier(TryAgain("status 503", after_seconds=0))
    bind_notifier("console", notifier)
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: anomalies() and the_delivery().attempts > 25, 30)
    assert overdue_deliveries.expire(24) == 0
    with connection():
        Delivery.update(queued_at=now() - timedelta(hours=24, seconds=1)).execute()
    until(lambda: overdue_deliveries.expire(24))
    assert (the_delivery().status, the_delivery().last_error) == ("dead", "status 503")
    (letter,) = dead_letters.list_(10)
    assert (letter.actor_name, letter.queue_name) == ("notify", "notify")
    notifier.outcomes = [Receipt("ok")]
    assert dead_letters.replay([letter.dead_letter_id]) == (1, [])
    until(lambda: the_delivery().status == "delivered")
    assert dead_letters.count() == 0


def test_an_exception_of_a_notifier_pauses_its_channel_and_is_retried(
    short_pauses: redis.Redis, start_worker: StartWorker
) -> None:
    delivery = announce_through(ScriptedNotifier(ValueError("a bug"), Receipt("ok")), start_worker, short_pauses)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


def test_an_anomaly_whose_evidence_cannot_be_read_is_announced_without_it(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    """A worker of a newer version may store other evidence."""
    channel = enable_only("console")
    bind_notifier("console", notifier := ScriptedNotifier(Receipt("ok")))
    announce_through(notifier, start_worker, pipeline)
    with connection():
        Anomaly.update(evidence={}).execute()
        Delivery.update(status="pending", due_at=now()).execute()
    wake([channel.channel_id])
    until(lambda: len(notifier.sent) == 2)
    assert (notifier.sent[1].evidence, notifier.sent[1].message) == ([], notifier.sent[0].message)


def test_one_wake_up_is_sent_for_all_anomalies_of_a_batch(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    """The wake-up is read by no worker of this test: its queue has no consumer."""
    with connection():
        channels = [channel.channel_id for channel in Channel.select()]
    wake(channels * 3)
    (message,) = pipeline.hvals("eventpulse:channels.msgs")
    assert sorted(msgspec.json.decode(message)["args"]) == sorted(map(str, channels))


def test_a_message_of_an_earlier_version_wakes_the_channel(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = ScriptedNotifier(Receipt("first"), Receipt("second"))
    delivery = announce_through(notifier, start_worker, pipeline)
    with connection():
        Delivery.update(status="pending", due_at=now()).execute()
    notify.notify.send(str(delivery.anomaly_id), str(delivery.channel_id))
    until(lambda: the_delivery().receipt == "second")


def test_an_unresponsive_channel_delays_no_other(
    pipeline: redis.Redis, start_worker: StartWorker, blocking: BlockingNotifier
) -> None:
    bind_notifier("console", blocking)
    each_event_fires("critical")
    accept(*events("critical", *range(20)))
    start_worker()
    until(lambda: statuses("live") == ["delivered"] * 20)
    blocking.release.set()
    until(lambda: idle(pipeline), 30)
    assert statuses("console") == ["delivered"] * 20


def test_many_unresponsive_webhooks_delay_neither_the_live_feed_nor_a_healthy_webhook(
    pipeline: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    with fake_http_server.running() as silent:
        silent.behaviour = silent.hang
        for number in range(120):  # more than the default number of connections of an HTTP client
            add_webhook(f"silent-{number}", silent.url)
        add_webhook("healthy", server.url)
        each_event_fires("critical")
        start_worker()
        accept(*events("critical", 1, 2))
        until(lambda: len(silent.received) >= 120, 30)
        accept(*events("critical", *range(3, 10)))
        until(lambda: statuses("live") == statuses("healthy") == ["delivered"] * 9, 9)
        with connection():
            Channel.update(enabled=False).where(Channel.name.startswith("silent")).execute()


def test_at_most_two_sends_to_a_channel_run_at_the_same_time(
    pipeline: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    server.behaviour = server.delayed(0.5, OK)
    add_webhook("slow", server.url)
    enable_only("slack")
    each_event_fires("critical")
    accept(*events("critical", *range(4)))
    start_worker()
    until(lambda: len(server.received) == 2)
    with connection():
        assert Delivery.select().where(Delivery.status == "sending").count() == 2
    until(lambda: idle(pipeline))


def test_after_a_failure_one_probe_is_sent_and_then_the_most_severe_and_oldest_first(
    short_pauses: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    server.behaviour = answer(503, "", Retry_After="0")
    channel = add_webhook("ops", server.url)
    enable_only("slack")
    each_event_fires("info")
    each_event_fires("critical")
    start_worker()
    for batch in (events("info", 1, 2), events("critical", 1), events("critical", 2)):
        before = len(statuses("ops"))
        accept(*batch)
        expected = before + len(batch)
        until(lambda expected=expected: len(statuses("ops")) == expected)
    until(lambda: (found := state(channel)) and found.failures >= 3)
    assert statuses("ops").count("sending") <= 1
    server.received.clear()
    server.behaviour = OK
    until(lambda: idle(short_pauses), 30)
    delivered = texts(server)
    criticals = [text for text in delivered if text.startswith("CRITICAL")]
    assert criticals[-2:][0] != criticals[-1]
    with connection():
        oldest_first = [
            each.message
            for each in Anomaly.select().where(Anomaly.severity == "critical").order_by(Anomaly.detected_at)
        ]
    assert [text.removeprefix("CRITICAL: ").replace("&gt;", ">") for text in criticals[-2:]] == oldest_first
    found = state(channel)
    assert found
    assert (found.failures, found.failing_since) == (0, None)


def test_a_message_that_its_server_cannot_process_does_not_block_its_channel(
    short_pauses: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    def behave(connection: Any) -> None:
        (answer(500) if '"n=666"' in texts(server)[-1] or "666" in texts(server)[-1] else OK)(connection)

    server.behaviour = behave
    add_webhook("ops", server.url)
    enable_only("slack")
    each_event_fires("critical")
    each_event_fires("info")
    start_worker()
    accept(*events("critical", 666))
    until(lambda: server.received)
    accept(*events("info", *range(5)))
    until(lambda: statuses("ops").count("delivered") == 5, 30)
    assert statuses("ops").count("delivered") == 5
    server.behaviour = OK
    until(lambda: idle(short_pauses), 30)


def test_a_channel_that_throttles_is_slowed_down_and_does_not_count_as_failing(
    short_pauses: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    server.behaviour = fake_http_server.in_turn(answer(429, "", Retry_After="0"), OK)
    channel = add_webhook("ops", server.url)
    enable_only("slack")
    each_event_fires("critical")
    accept(*events("critical", 1))
    start_worker()
    until(lambda: statuses("ops") == ["delivered"])
    found = state(channel)
    assert found
    assert (found.failures, found.failing_since, found.interval_seconds > 0) == (0, None, True)


def test_a_changed_channel_is_used_immediately(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    channel = enable_only("console")
    notifier = ScriptedNotifier(TryAgain("status 503", after_seconds=3_600))
    bind_notifier("console", notifier)
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: state(channel))
    notifier.outcomes = [Receipt("ok")]
    with connection():
        assert Channel.get_by_id(channel.channel_id).change(minimum_severity="info")
    wake([channel.channel_id], ends_pause=True)
    until(lambda: the_delivery().status == "delivered")


def test_the_deliveries_of_a_disabled_channel_are_rejected(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    channel = enable_only("console")
    bind_notifier("console", ScriptedNotifier(TryAgain("status 503", after_seconds=3_600)))
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: state(channel))
    with connection():
        Channel.update(enabled=False).execute()
    wake([channel.channel_id], ends_pause=True)
    until(lambda: the_delivery().status == "rejected")
    assert the_delivery().last_error == "the channel is disabled"


def test_a_channel_that_cannot_keep_up_gets_a_digest_and_critical_alerts_singly(
    short_pauses: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    release = BlockingNotifier().release

    def behave(connection: Any) -> None:
        release.wait(20)
        OK(connection)

    server.behaviour = behave
    add_webhook("ops", server.url)
    enable_only("slack")
    for severity in ("info", "warning", "critical"):
        each_event_fires(severity)
    start_worker()
    accept(*events("info", 1, 2))
    until(lambda: len(server.received) == 2)
    accept(*events("info", *range(3, 13)), *events("warning", 1, 2, 3), *events("critical", 1))
    until(lambda: len(anomalies()) == 16)
    release.set()
    until(lambda: idle(short_pauses), 30)
    (digest,) = [text for text in texts(server) if text.startswith("DIGEST")]
    assert [text for text in texts(server) if text.startswith("CRITICAL")]
    with connection():
        members = list(Delivery.select().where(Delivery.digest_id.is_null(False)))
    assert digest.startswith(f"DIGEST: {len(members)} further alerts: Every info 10, Every warning ")
    # While one send announces the critical alert, the other may announce the oldest warning.
    assert len(members) + len(server.received) in (13 + 4, 12 + 5)
    assert {(each.status, each.receipt) for each in members} == {
        ("delivered", f"in digest {members[0].digest_id}: Slack responded ok")
    }


def test_a_failing_channel_and_its_recovery_are_announced_on_the_others_once(
    short_pauses: redis.Redis, start_worker: StartWorker, server: fake_http_server.Server
) -> None:
    server.behaviour = answer(503)
    channel = add_webhook("ops", server.url)
    bind_notifier("console", console := ScriptedNotifier(Receipt("ok")))
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: (found := state(channel)) and found.failures >= 2)
    assert overdue_deliveries.announce_failing_channels() == 0, "announced after less than a minute"
    assert overdue_deliveries.announce_failing_channels(after_seconds=0) == 1
    assert overdue_deliveries.announce_failing_channels(after_seconds=0) == 0
    until(lambda: len(console.sent) == 2)
    assert (console.sent[1].kind, console.sent[1].severity) == ("channel", "warning")
    assert "Channel ops is failing since" in console.sent[1].message
    assert "status 503; 1 alert waiting" in console.sent[1].message
    server.behaviour = OK
    until(lambda: len(console.sent) == 3, 20)
    assert "Channel ops works again after" in console.sent[2].message
    with connection():
        until(lambda: not ChannelNotice.select().exists())


def test_a_delivery_whose_wake_up_was_lost_is_sent(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    """A worker may crash after it has recorded an anomaly and before it has sent the wake-up."""
    notifier = ScriptedNotifier(Receipt("first"), Receipt("second"))
    assert announce_through(notifier, start_worker, pipeline).status == "delivered"
    assert overdue_deliveries.wake_overdue() == 0
    with connection():
        Delivery.update(status="pending", due_at=now() - OVERDUE).execute()
    assert overdue_deliveries.wake_overdue() == 1
    until(lambda: the_delivery().receipt == "second")


def test_an_outage_during_the_claim_rolls_the_claim_back(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL becomes unavailable after the UPDATE of the claim."""
    failures: list[str] = []

    def fail_once(*arguments: Any) -> Any:
        if not failures:
            failures.append("once")
            raise peewee.OperationalError("server closed the connection unexpectedly")
        return compose(*arguments)

    monkeypatch.setattr(attempts, "compose", fail_once)
    delivery = announce_through(ScriptedNotifier(Receipt("ok")), start_worker, pipeline)
    assert failures
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


def test_a_delivery_claimed_by_a_lost_worker_is_sent_after_its_claim_expires(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    notifier = ScriptedNotifier(Receipt("first"), Receipt("second"))
    delivery = announce_through(notifier, start_worker, pipeline)
    with connection():
        Delivery.update(status="sending", due_at=now() + timedelta(seconds=1)).execute()
    wake([delivery.channel_id])
    until(lambda: the_delivery().receipt == "second")
    assert the_delivery().attempts == 2


def is_stopping(dispatcher: Dispatcher) -> bool:
    """Return whether the dispatcher rejects wake-ups."""
    try:
        dispatcher.wake([])
    except ShutdownRequested:
        return True
    return False


def test_a_stopping_dispatcher_finishes_its_sends_and_hands_over_the_rest(
    short_pauses: redis.Redis, start_worker: StartWorker, blocking: BlockingNotifier
) -> None:
    channel = enable_only("console")
    bind_notifier("console", blocking)
    each_event_fires("critical")
    accept(*events("critical", 1, 2, 3))
    worker = start_worker()
    assert blocking.started.wait(10)
    worker.stop(5_000)
    dispatcher = runtime.current().dispatcher
    stop = threading.Thread(target=dispatcher.stop, args=(10,))
    stop.start()
    until(lambda: is_stopping(dispatcher))
    blocking.release.set()
    stop.join()
    assert sorted(statuses("console")) == ["delivered", "pending", "pending"]
    (message,) = short_pauses.hvals("eventpulse:channels.msgs")
    assert msgspec.json.decode(message)["args"] == [str(channel.channel_id)]

"""The kinds of channels: what each must be told, what is shown of that, and how each delivers."""

import json
from collections.abc import Iterator

import marshmallow
import pytest
import redis
from support import fake_http_server
from support.fake_http_server import Server, answer
from support.notification_factory import notification

from notifiers import registry
from notifiers.base import Notifier, Receipt, TryAgain, Undeliverable
from notifiers.live import LIVE_CHANNEL, frame


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_http_server.running() as server:
        yield server


@pytest.fixture
def notifiers(redis_client: redis.Redis) -> dict[str, Notifier]:
    return registry.build(redis_client, None)


def test_slack_takes_a_message(server: Server, notifiers: dict[str, Notifier]) -> None:
    assert notifiers["slack"].send(notification(), {"webhook_url": server.url}) == Receipt("Slack answered ok")
    assert "High error rate" in str(server.received[0].json()["text"])


def test_slack_uses_the_webhook_of_the_environment(server: Server, redis_client: redis.Redis) -> None:
    slack = registry.build(redis_client, server.url)["slack"]
    assert slack.send(notification(), {"webhook_url": "environment"}) == Receipt("Slack answered ok")


def test_slack_without_a_webhook_in_the_environment_is_refused(notifiers: dict[str, Notifier]) -> None:
    with pytest.raises(Undeliverable, match=r"^SLACK_WEBHOOK_URL is not set$"):
        notifiers["slack"].send(notification(), {"webhook_url": "environment"})


@pytest.mark.parametrize(
    ("header", "reference"),
    [
        ("5d2a7f0c9b", "5d2a7f0c9b"),
        (fake_http_server.PATH, None),
        ("x" * 65, None),
        ("", None),
    ],
)
def test_the_request_id_of_slack_is_the_reference_of_the_receipt(
    server: Server, notifiers: dict[str, Notifier], header: str, reference: str | None
) -> None:
    server.behaviour = answer(200, "ok", X_Slack_Req_Id=header)
    receipt = notifiers["slack"].send(notification(), {"webhook_url": server.url})
    assert receipt == Receipt("Slack answered ok", reference)


@pytest.mark.parametrize("body", ["<html>log in</html>", '{"ok": false, "error": "not_authed"}', ""])
def test_a_page_that_is_no_webhook_has_not_delivered_anything(
    server: Server, notifiers: dict[str, Notifier], body: str
) -> None:
    server.behaviour = answer(200, body)
    with pytest.raises(Undeliverable, match="not as a Slack webhook does"):
        notifiers["slack"].send(notification(), {"webhook_url": server.url})


def test_the_live_feed_carries_the_frame_of_the_contract(
    redis_client: redis.Redis, notifiers: dict[str, Notifier]
) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(LIVE_CHANNEL)
        subscription.get_message(timeout=5)
        assert notifiers["live"].send(notification(), {}) == Receipt("published to 1 gateways")
        message = subscription.get_message(timeout=5)
    assert message is not None
    assert json.loads(message["data"]) == {
        "type": "anomaly",
        "severity": "critical",
        "message": "High error rate: 6 events in 60 s, more than 5 (source=payment_service)",
        "detected_at": "2026-11-20T03:12:45.300000Z",
        "anomaly_id": "0193b1a0-0000-7000-8000-00000000000a",
        "rule_id": "0193b1a0-0000-7000-8000-00000000000b",
    }


def test_a_test_is_marked_as_one_in_the_live_feed() -> None:
    assert json.loads(frame(notification(kind="test")))["type"] == "test"


def test_the_live_feed_of_nobody_is_a_success(notifiers: dict[str, Notifier]) -> None:
    assert notifiers["live"].send(notification(), {}) == Receipt("published to 0 gateways")


def test_a_redis_that_is_away_is_tried_again() -> None:
    live = registry.build(redis.Redis.from_url("redis://127.0.0.1:1/0"), None)["live"]
    with pytest.raises(TryAgain, match=r"^Redis did not take it: ConnectionError$"):
        live.send(notification(), {})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("slack", {"webhook_url": "https://hooks.slack.com/services/T000/B000/s3cr3t"}),
        ("slack", {"webhook_url": "http://localhost:9000/hook"}),
        ("slack", {"webhook_url": "environment"}),
        ("console", {}),
        ("live", {}),
    ],
)
def test_good_settings_are_taken(kind: str, settings: dict[str, str]) -> None:
    assert registry.KINDS[kind].settings_schema().load(settings) == settings


@pytest.mark.parametrize(
    ("kind", "settings", "field"),
    [
        ("slack", {}, "webhook_url"),
        ("slack", {"webhook_url": None}, "webhook_url"),
        ("slack", {"webhook_url": 5}, "webhook_url"),
        ("slack", {"webhook_url": ""}, "webhook_url"),
        ("slack", {"webhook_url": "ftp://s3cr3t.example/"}, "webhook_url"),
        ("slack", {"webhook_url": "environment", "chanel": "#ops"}, "chanel"),
        ("console", {"stream": "s3cr3t"}, "stream"),
        ("live", {"channel": "s3cr3t"}, "channel"),
    ],
)
def test_bad_settings_are_refused_by_name_and_not_repeated(kind: str, settings: dict[str, object], field: str) -> None:
    with pytest.raises(marshmallow.ValidationError) as caught:
        registry.KINDS[kind].settings_schema().load(settings)
    assert list(caught.value.messages_dict) == [field]
    assert "s3cr3t" not in str(caught.value.messages)


def test_secrets_are_never_shown() -> None:
    webhook = {"webhook_url": "https://hooks.slack.com/services/s3cr3t"}
    assert registry.public_settings("slack", webhook) == {"webhook_url": "***"}
    assert registry.public_settings("slack", {"webhook_url": "environment"}) == {"webhook_url": "environment"}
    assert registry.public_settings("console", {}) == {}
    assert registry.public_settings("pager", {"token": "s3cr3t"}) == {"token": "***"}

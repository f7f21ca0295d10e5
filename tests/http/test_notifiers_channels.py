"""Tests of the channel kinds: their settings, their secrets, and the delivery of a notification."""

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
from notifiers.http import HttpClient
from notifiers.kind import NotifierContext
from notifiers.live import LIVE_CHANNEL, frame

FROM_ENVIRONMENT = {"webhook_url": "env:SLACK_WEBHOOK_URL"}


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_http_server.running() as server:
        yield server


def build(client: redis.Redis, slack_webhook_url: str | None = None) -> dict[str, Notifier]:
    """Return the notifiers by channel kind, built with this Redis client and this value of SLACK_WEBHOOK_URL."""
    return registry.build(NotifierContext(client, HttpClient(), {"SLACK_WEBHOOK_URL": slack_webhook_url}))


@pytest.fixture
def notifiers(redis_client: redis.Redis) -> dict[str, Notifier]:
    return build(redis_client)


def test_slack_accepts_a_message(server: Server, notifiers: dict[str, Notifier]) -> None:
    assert notifiers["slack"].send(notification(), {"webhook_url": server.url}) == Receipt("Slack responded ok")
    assert "High error rate" in str(server.received[0].json()["text"])


def test_slack_uses_the_webhook_of_the_environment(server: Server, redis_client: redis.Redis) -> None:
    build(redis_client, server.url)["slack"].send(notification(), FROM_ENVIRONMENT)
    assert len(server.received) == 1


@pytest.mark.parametrize("name", ["SLACK_WEBHOOK_URL", "DATABASE_URL"])
def test_a_variable_that_is_not_set_or_not_offered_is_undeliverable(
    notifiers: dict[str, Notifier], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "http://127.0.0.1:1/s3cr3t")
    with pytest.raises(Undeliverable, match=f"^environment variable {name} is not set$"):
        notifiers["slack"].send(notification(), {"webhook_url": f"env:{name}"})


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
    assert receipt == Receipt("Slack responded ok", reference)


@pytest.mark.parametrize("body", ["<html>log in</html>", '{"ok": false, "error": "not_authed"}', ""])
def test_a_response_that_is_not_from_a_webhook_is_undeliverable(
    server: Server, notifiers: dict[str, Notifier], body: str
) -> None:
    server.behaviour = answer(200, body)
    with pytest.raises(Undeliverable, match="not from a Slack webhook"):
        notifiers["slack"].send(notification(), {"webhook_url": server.url})


def test_the_live_feed_has_the_documented_frame(redis_client: redis.Redis, notifiers: dict[str, Notifier]) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(LIVE_CHANNEL)
        subscription.get_message(timeout=5)
        assert notifiers["live"].send(notification(), {}) == Receipt("published to 1 gateway")
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


def test_a_test_notification_is_marked_in_the_live_feed() -> None:
    assert json.loads(frame(notification(kind="test")))["type"] == "test"


def test_a_live_delivery_succeeds_without_a_gateway(notifiers: dict[str, Notifier]) -> None:
    assert notifiers["live"].send(notification(), {}) == Receipt("published to 0 gateways")


def test_a_live_delivery_can_be_retried_when_redis_is_unavailable() -> None:
    live = build(redis.Redis.from_url("redis://127.0.0.1:1/0"))["live"]
    with pytest.raises(TryAgain, match=r"^cannot publish to Redis: ConnectionError$"):
        live.send(notification(), {})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("slack", {"webhook_url": "https://hooks.slack.com/services/T000/B000/s3cr3t"}),
        ("slack", {"webhook_url": "http://localhost:9000/hook"}),
        ("slack", FROM_ENVIRONMENT),
        ("console", {}),
        ("live", {}),
    ],
)
def test_valid_settings_are_accepted(kind: str, settings: dict[str, str]) -> None:
    assert registry.KINDS[kind].settings_schema().load(settings) == settings


@pytest.mark.parametrize(
    ("kind", "settings", "field"),
    [
        ("slack", {}, "webhook_url"),
        ("slack", {"webhook_url": None}, "webhook_url"),
        ("slack", {"webhook_url": 5}, "webhook_url"),
        ("slack", {"webhook_url": ""}, "webhook_url"),
        ("slack", {"webhook_url": "ftp://s3cr3t.example/"}, "webhook_url"),
        ("slack", FROM_ENVIRONMENT | {"chanel": "#ops"}, "chanel"),
        ("console", {"stream": "s3cr3t"}, "stream"),
        ("live", {"channel": "s3cr3t"}, "channel"),
    ],
)
def test_invalid_settings_are_named_and_their_values_are_not_repeated(
    kind: str, settings: dict[str, object], field: str
) -> None:
    with pytest.raises(marshmallow.ValidationError) as caught:
        registry.KINDS[kind].settings_schema().load(settings)
    assert list(caught.value.messages_dict) == [field]
    assert "s3cr3t" not in str(caught.value.messages)


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "HOME", "slack_webhook_url", ""])
def test_a_secret_may_only_refer_to_a_variable_that_is_offered_to_channels(name: str) -> None:
    with pytest.raises(marshmallow.ValidationError) as caught:
        registry.KINDS["slack"].settings_schema().load({"webhook_url": f"env:{name}"})
    assert caught.value.messages == {"webhook_url": ["Must refer to one of: env:SLACK_WEBHOOK_URL."]}


def test_secrets_are_masked_and_references_are_shown() -> None:
    webhook = {"webhook_url": "https://hooks.slack.com/services/s3cr3t"}
    assert registry.public_settings("slack", webhook) == {"webhook_url": "***"}
    assert registry.public_settings("slack", FROM_ENVIRONMENT) == FROM_ENVIRONMENT
    assert registry.public_settings("console", {}) == {}


def test_all_settings_of_an_unknown_kind_are_masked() -> None:
    assert registry.public_settings("pager", {"token": "s3cr3t"}) == {"token": "***"}

"""Tests of channels over HTTP: secrets, concurrent changes, validation, and test notifications."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import redis
from falcon.testing import TestClient
from support import fake_http_server
from support.waiting import until

from api import problems
from api.resources.channels import MAX_CONCURRENT_TESTS, RunningTests
from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.channel_state import ChannelState
from models.database import connection, database
from models.delivery import Delivery
from notifiers.live import LIVE_CHANNEL

SECRET = "https://hooks.slack.com/services/T0/B0/secret"
HEALTHY = {
    "status": "healthy",
    "failing_since": None,
    "last_error": None,
    "paused_until": None,
    "waiting": 0,
    "oldest_waiting_seconds": None,
}
SLACK: dict[str, Any] = {"name": "ops", "kind": "slack", "settings": {"webhook_url": SECRET}}

ANOMALY: dict[str, Any] = {
    "dedupe_key": "key",
    "rule_id": UUID(int=1),
    "rule_name": "Errors",
    "rule_version": 1,
    "severity": "info",
    "group_key": "{}",
    "event_id": UUID(int=2),
    "message": "6 errors",
    "evidence": {},
    "series": "series",
    "cooldown_anchor": now(),
    "occurred_at": now(),
}


def path(channel: dict[str, Any], more: str = "") -> str:
    return f"/api/v1/channels/{channel['channel_id']}{more}"


def add(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.simulate_post("/api/v1/channels", json=SLACK | fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == path(answer.json)
    return answer.json


def secret(channel: dict[str, Any]) -> str:
    """Return the webhook URL of a channel as stored in PostgreSQL."""
    return Channel.get_by_id(UUID(channel["channel_id"])).settings["webhook_url"]


@pytest.fixture
def webhook() -> Iterator[fake_http_server.Server]:
    """Start a fake Slack server for the test."""
    with fake_http_server.running() as server:
        yield server


def test_the_console_and_live_channels_exist_from_the_start(client: TestClient) -> None:
    channels = client.simulate_get("/api/v1/channels").json["data"]
    assert {(channel["name"], channel["kind"], channel["enabled"]) for channel in channels} == {
        ("console", "console", True),
        ("live", "live", True),
    }


def test_a_created_channel_is_returned_with_defaults_and_a_masked_secret(client: TestClient, db: None) -> None:
    channel = add(client)
    assert channel == {
        "channel_id": channel["channel_id"],
        "name": "ops",
        "kind": "slack",
        "settings": {"webhook_url": "***"},
        "minimum_severity": "info",
        "enabled": True,
        "version": 1,
        "created_at": channel["created_at"],
        "updated_at": channel["updated_at"],
        "health": HEALTHY,
    }
    assert secret(channel) == SECRET


def test_no_response_contains_a_secret(client: TestClient) -> None:
    channel = add(client)
    answers = [
        client.simulate_get("/api/v1/channels"),
        client.simulate_get(path(channel)),
        client.simulate_patch(path(channel), json={"name": "renamed"}),
        client.simulate_put(path(channel), json=SLACK),
        client.simulate_put(path(channel), json=SLACK | {"settings": {"webhook_url": "secret"}}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400]
    assert not [answer.text for answer in answers if "secret" in answer.text]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_mask_that_is_sent_back_keeps_the_stored_secret(client: TestClient, db: None, method: str) -> None:
    channel = add(client)
    answer = client.simulate_request(method, path(channel), json=channel | {"enabled": False})
    assert (answer.status_code, answer.json["enabled"], secret(channel)) == (200, False, SECRET)


def test_a_new_secret_replaces_the_stored_one(client: TestClient, db: None) -> None:
    channel = add(client)
    client.simulate_patch(path(channel), json={"settings": {"webhook_url": SECRET + "2"}})
    assert secret(channel) == SECRET + "2"


def test_a_mask_without_a_stored_secret_is_rejected(client: TestClient, db: None) -> None:
    answer = client.simulate_post("/api/v1/channels", json=SLACK | {"settings": {"webhook_url": "***"}})
    assert [error["field"] for error in answer.json["errors"]] == ["settings.webhook_url"]
    console = Channel.get(Channel.name == "console")
    answer = client.simulate_put(
        f"/api/v1/channels/{console.channel_id}", json=SLACK | {"settings": {"webhook_url": "***"}}
    )
    assert answer.status_code == 400


def test_patch_changes_only_the_given_fields(client: TestClient) -> None:
    channel = add(client)
    patched = client.simulate_patch(path(channel), json={"minimum_severity": "critical"}).json
    changed = {"minimum_severity": "critical", "version": 2, "updated_at": patched["updated_at"]}
    assert patched == channel | changed
    assert patched["updated_at"] > channel["updated_at"]


def test_a_deleted_channel_is_not_found(client: TestClient) -> None:
    channel = add(client)
    assert client.simulate_delete(path(channel)).status_code == 204
    assert client.simulate_get(path(channel)).status_code == 404


def test_two_channels_cannot_have_the_same_name(client: TestClient) -> None:
    add(client)
    other = add(client, name="other")
    assert client.simulate_post("/api/v1/channels", json=SLACK).status_code == 409
    assert client.simulate_patch(path(other), json={"name": "ops"}).status_code == 409
    assert client.simulate_get(path(other)).json == other


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_rejects_a_change_of_an_older_version(client: TestClient, method: str) -> None:
    channel = add(client)
    changed = client.simulate_patch(path(channel), json={"name": "changed meanwhile"})
    assert (changed.json["version"], changed.headers["ETag"]) == (2, '"2"')
    answer = client.simulate_request(method, path(channel), json=SLACK, headers={"If-Match": '"1"'})
    assert answer.status_code == 412
    assert client.simulate_get(path(channel)).json["name"] == "changed meanwhile"
    answer = client.simulate_request(method, path(channel), json=SLACK, headers={"If-Match": '"7", "2"'})
    assert answer.status_code in (200, 204)


@pytest.mark.parametrize(("headers", "status"), [({}, 409), ({"If-Match": '"1"'}, 412)])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_the_second_of_two_concurrent_changes_is_rejected(
    client: TestClient, db: None, method: str, headers: dict[str, str], status: int
) -> None:
    """The second request reads the channel before the first change is committed, and then waits for a lock."""
    channel = add(client)
    with ThreadPoolExecutor(1) as pool, database.atomic():
        assert Channel.get_by_id(UUID(channel["channel_id"])).change(name="the first")
        second = pool.submit(client.simulate_request, method, path(channel), json=SLACK, headers=headers)
        until(lambda: database.execute_sql("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
    assert second.result(10).status_code == status
    assert client.simulate_get(path(channel)).json["name"] == "the first"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"kind": "pigeon"}, "kind"),
        ({"minimum_severity": "fatal"}, "minimum_severity"),
        ({"enabled": 1}, "enabled"),
        ({"settings": {}}, "settings.webhook_url"),
        ({"settings": {"webhook_url": "no url"}}, "settings.webhook_url"),
        ({"settings": {"webhook_url": "https://hooks.example.com:99999/x"}}, "settings.webhook_url"),
        ({"settings": []}, "settings"),
        ({"kind": "console"}, "settings.webhook_url"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_an_invalid_field_of_a_channel_is_named_in_the_error(
    client: TestClient, change: dict[str, Any], field: str
) -> None:
    answer = client.simulate_post("/api/v1/channels", json=SLACK | change)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (400, [field])


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_unknown_channel_gets_404_and_an_invalid_id_400(client: TestClient, method: str) -> None:
    assert client.simulate_request(method, f"/api/v1/channels/{uuid4()}", json=SLACK).status_code == 404
    assert client.simulate_request(method, "/api/v1/channels/7", json=SLACK).status_code == 400
    assert client.simulate_post(f"/api/v1/channels/{uuid4()}/test").status_code == 404


def test_a_test_notification_reaches_the_webhook_and_returns_its_receipt(
    client: TestClient, webhook: fake_http_server.Server
) -> None:
    channel = add(client, settings={"webhook_url": webhook.url}, enabled=False)
    answer = client.simulate_post(path(channel, "/test"))
    assert (answer.status_code, answer.json["status"]) == (200, "delivered")
    assert answer.json["receipt"]
    assert "reference" not in answer.json
    assert "test of the channel ops" in webhook.received[0].body.decode()


def test_the_reference_of_the_provider_is_returned(client: TestClient, webhook: fake_http_server.Server) -> None:
    webhook.behaviour = fake_http_server.answer(200, "ok", X_Slack_Req_Id="request-17")
    channel = add(client, settings={"webhook_url": webhook.url})
    answer = client.simulate_post(path(channel, "/test"))
    assert (answer.status_code, answer.json["reference"]) == (200, "request-17")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [(404, "no_service", {}), (500, "oops", {}), (429, "", {"Retry_After": "17"})],
)
def test_a_failed_test_notification_returns_the_reason_and_retry_after(
    client: TestClient, webhook: fake_http_server.Server, status: int, body: str, headers: dict[str, str]
) -> None:
    webhook.behaviour = fake_http_server.answer(status, body, **headers)
    channel = add(client, settings={"webhook_url": webhook.url})
    answer = client.simulate_post(path(channel, "/test"))
    assert answer.status_code == 502
    assert str(status) in answer.json["detail"]
    assert answer.headers.get("Retry-After") == headers.get("Retry_After")
    assert "s3cr3t" not in answer.text


def test_channels_that_do_not_respond_do_not_prevent_tests_of_other_channels(
    client: TestClient, webhook: fake_http_server.Server
) -> None:
    """More tests are running than the process has connections to PostgreSQL."""
    finish = threading.Event()

    def answer_when_finished(connection: socket.socket) -> None:
        finish.wait(10)
        fake_http_server.OK(connection)

    webhook.behaviour = answer_when_finished
    silent = [add(client, name=f"silent {number}", settings={"webhook_url": webhook.url}) for number in range(18)]
    with ThreadPoolExecutor(len(silent)) as pool:
        tests = [pool.submit(client.simulate_post, path(channel, "/test")) for channel in silent]
        until(lambda: len(webhook.received) == len(silent))
        second = client.simulate_post(path(silent[0], "/test"))
        assert (second.status_code, second.json["detail"]) == (409, "A test of this channel is already running")
        assert client.simulate_post("/api/v1/channels/00000000-0000-7000-8000-000000000001/test").status_code == 200
        finish.set()
    assert [test.result().status_code for test in tests] == [200] * len(silent)
    assert client.simulate_post(path(silent[0], "/test")).status_code == 200


def test_the_number_of_running_tests_is_limited() -> None:
    running = RunningTests()
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONCURRENT_TESTS):
            stack.enter_context(running.slot(uuid4()))
        with pytest.raises(problems.Problem) as rejected, running.slot(uuid4()):
            pass
        assert rejected.value.status_code == 503
    with running.slot(uuid4()):
        pass


def test_a_test_notification_to_the_live_channel_is_published(client: TestClient, redis_client: redis.Redis) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as feed:
        feed.subscribe(LIVE_CHANNEL)
        feed.get_message(timeout=5)
        live = Channel(channel_id=UUID("00000000-0000-7000-8000-000000000002"))
        assert client.simulate_post(f"/api/v1/channels/{live.channel_id}/test").status_code == 200
        frame = next(message for _ in range(10) if (message := feed.get_message(timeout=1)))
        assert msgspec.json.decode(frame["data"])["severity"] == "info"


def test_a_test_notification_to_the_console_is_written(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.simulate_post("/api/v1/channels/00000000-0000-7000-8000-000000000001/test").status_code == 200
    assert "test of the channel console" in capsys.readouterr().out


def test_a_test_of_a_channel_whose_kind_is_unknown_gets_502(client: TestClient) -> None:
    with connection():
        channel = Channel.create(name="newer", kind="pigeon")
    response = client.simulate_post(f"/api/v1/channels/{channel.channel_id}/test")
    detail = "this version does not support channels of the kind pigeon"
    assert (response.status_code, response.json["detail"]) == (502, detail)


def fail(channel: dict[str, Any]) -> Channel:
    """Record a failure of the channel with a pause of 15 minutes, and return the channel."""
    row: Channel = Channel.get_by_id(UUID(channel["channel_id"]))
    ChannelState.record_failure(row, 3, 900, "status 503")
    return row


def wake_ups(redis_client: redis.Redis) -> list[str]:
    """Return the ids of the channels in all queued wake-ups, and delete the wake-ups."""
    found = [msgspec.json.decode(each)["args"] for each in redis_client.hvals("eventpulse:channels.msgs")]
    redis_client.delete("eventpulse:channels.msgs")
    return [channel_id for ids in found for channel_id in ids]


def test_a_channel_shows_that_it_is_failing_and_what_waits(client: TestClient, db: None) -> None:
    channel = add(client)
    fail(channel)
    anomaly = Anomaly.create(**ANOMALY)
    Delivery.create_missing([anomaly.anomaly_id], [Channel.get_by_id(UUID(channel["channel_id"]))])
    health = client.simulate_get(path(channel)).json["health"]
    assert (health["status"], health["last_error"], health["waiting"]) == ("failing", "status 503", 1)
    assert health["failing_since"] < health["paused_until"]
    assert 0 <= health["oldest_waiting_seconds"] < 60
    assert client.simulate_get("/api/v1/channels").json["data"][0]["health"]["status"] == "failing"
    ChannelState.update(failing_since=None, interval_seconds=1).execute()
    assert client.simulate_get(path(channel)).json["health"]["status"] == "throttled"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_changed_channel_has_no_pause_and_is_woken(
    client: TestClient, db: None, redis_client: redis.Redis, method: str
) -> None:
    channel = add(client)
    fail(channel)
    wake_ups(redis_client)
    changed = client.simulate_request(method, path(channel), json=SLACK).json
    assert changed["health"] == HEALTHY
    assert wake_ups(redis_client) == [channel["channel_id"]]


def test_a_successful_test_ends_the_pause_of_a_channel_and_wakes_it(
    client: TestClient, db: None, redis_client: redis.Redis, webhook: fake_http_server.Server
) -> None:
    channel = add(client, settings={"webhook_url": webhook.url})
    fail(channel)
    wake_ups(redis_client)
    webhook.behaviour = fake_http_server.answer(503)
    assert client.simulate_post(path(channel, "/test")).status_code == 502
    assert client.simulate_get(path(channel)).json["health"]["status"] == "failing"
    assert wake_ups(redis_client) == []
    webhook.behaviour = fake_http_server.OK
    assert client.simulate_post(path(channel, "/test")).status_code == 200
    assert client.simulate_get(path(channel)).json["health"] == HEALTHY
    assert wake_ups(redis_client) == [channel["channel_id"]]

"""Resource of channels, to which alerts are sent."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from math import ceil
from threading import Lock
from typing import Any
from uuid import UUID

import falcon
from marshmallow import Schema, ValidationError, fields, post_load, validate

from actors import runtime
from actors.channels.wake import try_wake
from api import middleware, problems
from api.openapi import response_schemas as json_schema
from api.openapi.operation import Operation
from api.resources import crud
from api.resources.lookup import find
from eventpulse.masking import MASK
from eventpulse.severity import SEVERITIES
from models.base import now
from models.channel import Channel
from models.channel_health import health
from models.channel_state import ChannelState
from models.database import connection
from notifiers.base import Notification, TryAgain, Undeliverable
from notifiers.registry import KINDS, public_settings
from rules.conditions.fields import StrictBoolean

#: Maximum number of channel tests that one process runs at the same time, for different channels: a test occupies a
#: connection until the channel responds, and a client could use many tests to probe internal hosts (SSRF).
MAX_CONCURRENT_TESTS = 20

EXAMPLE = {
    "name": "ops",
    "kind": "slack",
    "settings": {"webhook_url": "https://hooks.slack.com/services/…"},
    "minimum_severity": "warning",
}
DELIVERED = json_schema.object_of({"status": json_schema.choice("delivered"), "receipt": json_schema.STRING})
DELIVERED["properties"]["reference"] = json_schema.STRING | {
    "description": "id of the message or request at the channel's provider; absent if the provider returned no id"
}


HEALTH = json_schema.object_of(
    {
        "status": json_schema.choice("healthy", "failing", "throttled", "disabled")
        | {
            "description": "`failing`: the last send failed or was rejected; `throttled`: the server of the channel "
            "limits the rate of messages"
        },
        "failing_since": json_schema.nullable(json_schema.TIME),
        "last_error": json_schema.nullable(json_schema.STRING),
        "paused_until": json_schema.nullable(json_schema.TIME) | {"description": "time of the next send"},
        "waiting": json_schema.INTEGER | {"description": "number of alerts that wait for this channel"},
        "oldest_waiting_seconds": json_schema.nullable(json_schema.NUMBER),
    }
)


class ChannelSchema(Schema):
    """Schema of a channel in a request body."""

    name = fields.String(required=True, validate=validate.Length(1, 255))
    kind = fields.String(required=True, validate=validate.OneOf(list(KINDS)))
    settings = fields.Dict(
        load_default=dict, metadata={"description": "settings of the channel; the fields depend on `kind`"}
    )
    minimum_severity = fields.String(load_default="info", validate=validate.OneOf(SEVERITIES))
    enabled = StrictBoolean(load_default=True)

    @post_load
    def check_settings(self, channel: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Validate the settings with the schema of the channel's kind, and return the channel.

        Raises `marshmallow.ValidationError` if the settings are invalid.
        """
        try:
            settings = KINDS[channel["kind"]].settings_schema().load(channel["settings"])
        except ValidationError as error:
            raise ValidationError({"settings": error.messages}) from error
        return channel | {"settings": settings}


class ChannelsResource(crud.CrudResource):
    """`/api/v1/channels`, `/api/v1/channels/{channel_id}` and `/api/v1/channels/{channel_id}/test`.

    Responses never contain a secret.
    """

    model = Channel
    schema = ChannelSchema()
    read_only = frozenset({"channel_id", "version", "created_at", "updated_at", "health"})
    newest_first = (Channel.created_at, Channel.channel_id)
    unique_field = "name"
    schemas = {"Channel": json_schema.row(Channel, health=json_schema.ref("ChannelHealth")), "ChannelHealth": HEALTH}
    operations = crud.operations("Channel", ChannelSchema, EXAMPLE) | {
        "on_post_test": Operation(
            "Send a test message; if the delivery fails, the response has the status 502 and contains the reason",
            DELIVERED,
            failures=(400, 403, 404, 409, 502, 503),
        )
    }

    def __init__(self) -> None:
        self._tests = RunningTests()

    def create(self, fields: Mapping[str, Any]) -> Channel:
        channel = Channel.add(**fields)
        if channel is None:
            raise self.duplicate()
        return channel

    def public(self, row: Channel) -> dict[str, Any]:
        settings = public_settings(row.kind, row.settings)
        return {**row.__data__, "settings": settings, "health": health(row)._asdict()}

    def _answer_written(self, row: Channel, resp: falcon.Response) -> None:
        """Answer, and wake the channel: a changed channel has no failures, so what is waiting can be sent now."""
        super()._answer_written(row, resp)
        try_wake([row.channel_id], ends_pause=True)

    def completed(self, row: Channel, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body with stored secrets in place of masks, so that clients can send a channel back unchanged."""
        settings = body.get("settings")
        if not isinstance(settings, dict) or body.get("kind") != row.kind:
            return body
        secrets = {name: value for name, value in row.settings.items() if settings.get(name) == MASK}
        return body | {"settings": settings | secrets}

    def on_post_test(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """Send a test notification now, even if the channel is disabled."""
        channel = find(Channel, path)
        middleware.release_connection(req)  # slow channels must not use up the connections to PostgreSQL
        try:
            with self._tests.slot(channel.channel_id):
                notifier = runtime.current().notifier(channel.kind)
                receipt = notifier.send(test_notification(channel), channel.settings)
        except TryAgain as failure:
            seconds = failure.after_seconds
            headers = None if seconds is None else {"Retry-After": str(ceil(seconds))}
            raise problems.Problem(HTTPStatus.BAD_GATEWAY, failure.reason, headers=headers) from failure
        except Undeliverable as failure:
            raise problems.Problem(HTTPStatus.BAD_GATEWAY, failure.reason) from failure
        _use_again(channel)
        reference = {} if receipt.reference is None else {"reference": receipt.reference}
        resp.media = {"status": "delivered", "receipt": receipt.text, **reference}


def _use_again(channel: Channel) -> None:
    """End the pause of a channel that has accepted a test, and send what is waiting."""
    with connection():
        ChannelState.reset(channel)
    try_wake([channel.channel_id], ends_pause=True)


class RunningTests:
    """Channel tests that are running in this process: at most one for each channel, so that a channel that does not
    respond delays no test of another channel.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._channel_ids: set[UUID] = set()

    @contextmanager
    def slot(self, channel_id: UUID) -> Iterator[None]:
        """Register a test during the block.

        Raises `problems.Problem`: 409 if a test of the channel is running, 503 if too many tests are running.
        """
        with self._lock:
            if channel_id in self._channel_ids:
                raise problems.Problem(HTTPStatus.CONFLICT, "A test of this channel is already running")
            if len(self._channel_ids) >= MAX_CONCURRENT_TESTS:
                raise problems.unavailable("Too many channel tests are running")
            self._channel_ids.add(channel_id)
        try:
            yield
        finally:
            self._channel_ids.discard(channel_id)


def test_notification(channel: Channel) -> Notification:
    """Return a test notification whose ids are nil UUIDs."""
    nil = str(UUID(int=0))
    return Notification(
        kind="test",
        subject_key=f"channel:{channel.channel_id}",
        anomaly_id=nil,
        rule_id=nil,
        rule_name="Channel test",
        severity="info",
        message=f"This is a test of the channel {channel.name}: alerts will look like this",
        observed="1",
        threshold="none",
        window_seconds=0,
        group={},
        event_id=nil,
        occurred_at=now(),
        detected_at=now(),
        evidence=[],
        link=None,
    )

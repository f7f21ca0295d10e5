"""The live feed: one frame for everyone who watches, by way of Redis Pub/Sub."""

from collections.abc import Mapping
from typing import Any, ClassVar

import marshmallow
import msgspec
import redis

from notifiers.base import NoSettings, Notification, Receipt, TryAgain

LIVE_CHANNEL = "eventpulse:live"


class Live:
    """Publishes. Nobody watching is a success, too: the feed shows what happens now and keeps nothing."""

    settings_schema: ClassVar[type[marshmallow.Schema]] = NoSettings
    secrets: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:  # noqa: ARG002 — there are none
        try:
            gateways = self._client.publish(LIVE_CHANNEL, frame(notification))
        except redis.RedisError as error:
            raise TryAgain(f"Redis did not take it: {type(error).__name__}") from error
        return Receipt(f"published to {gateways} gateways")


def frame(notification: Notification) -> bytes:
    """The message of `GET /ws`, as JSON."""
    return msgspec.json.encode(
        {
            "type": "test" if notification.kind == "test" else "anomaly",
            "severity": notification.severity,
            "message": notification.message,
            "detected_at": notification.detected_at,
            "anomaly_id": notification.anomaly_id,
            "rule_id": notification.rule_id,
        }
    )

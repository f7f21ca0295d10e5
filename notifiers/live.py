"""Live channels: announcements to the clients of the WebSocket gateways, through Redis Pub/Sub."""

from collections.abc import Mapping
from typing import Any

import msgspec
import redis

from notifiers.base import Notification, Receipt, TryAgain
from notifiers.kind import ChannelKind, NoSettings, NotifierContext

LIVE_CHANNEL = "eventpulse:live"


class Live:
    """Notifier that publishes to the gateways.

    The delivery succeeds even without a gateway: the live feed shows only current anomalies and stores none.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:  # noqa: ARG002 - no settings
        try:
            gateways = self._client.publish(LIVE_CHANNEL, frame(notification))
        except redis.RedisError as error:
            raise TryAgain(f"cannot publish to Redis: {type(error).__name__}") from error
        return Receipt(f"published to {gateways} gateway{'' if gateways == 1 else 's'}")


def frame(notification: Notification) -> bytes:
    """Return the message that clients of `GET /ws` receive, as JSON."""
    return msgspec.json.encode(
        {
            "type": "anomaly" if notification.kind == "alert" else notification.kind,
            "severity": notification.severity,
            "message": notification.message,
            "detected_at": notification.detected_at,
            "anomaly_id": notification.anomaly_id or None,
            "rule_id": notification.rule_id or None,
        }
    )


def _build(context: NotifierContext) -> Live:
    return Live(context.redis_client)


KIND = ChannelKind("live", NoSettings, _build, is_local=True)

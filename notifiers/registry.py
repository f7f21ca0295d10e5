"""All kinds of channels, on one screen."""

from collections.abc import Mapping
from typing import Any

import redis

from notifiers.base import Notifier
from notifiers.console import Console
from notifiers.http import Http
from notifiers.live import Live
from notifiers.slack.webhook import FROM_ENVIRONMENT, Slack

KINDS: dict[str, type[Notifier]] = {"slack": Slack, "console": Console, "live": Live}
MASK = "***"


def build(redis_client: redis.Redis, slack_webhook_url: str | None) -> dict[str, Notifier]:
    """A notifier of each kind, ready to send from any thread."""
    return {
        "slack": Slack(Http(), slack_webhook_url),
        "console": Console(),
        "live": Live(redis_client),
    }


def public_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a channel as they may be shown: secrets masked; of a kind that is not known here, all."""
    secrets = KINDS[kind].secrets if kind in KINDS else settings.keys()
    return {name: MASK if name in secrets and value != FROM_ENVIRONMENT else value for name, value in settings.items()}

"""Notifiers with scripted outcomes, and channels that use them."""

import threading
from collections.abc import Mapping
from typing import Any

from actors import runtime
from models.channel import Channel
from models.database import connection
from notifiers.base import Notification, Receipt


class ScriptedNotifier:
    """Notifier that returns or raises the given outcomes, one for each call; the last outcome is repeated."""

    def __init__(self, *outcomes: Exception | Receipt) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Notification] = []

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        self.sent.append(notification)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class BlockingNotifier:
    """Notifier that returns after `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started = threading.Event()

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        self.started.set()
        assert self.release.wait(30)
        return Receipt("ok")


def bind_notifier(kind: str, notifier: Any) -> None:
    """Replace the notifier of one kind in the runtime of this process."""
    notifiers: Any = runtime.current().notifiers
    notifiers[kind] = notifier


def enable_only(kind: str) -> Channel:
    """Disable all channels of other kinds, and return the channel of this kind."""
    with connection():
        Channel.update(enabled=False).where(Channel.kind != kind).execute()
        found: Channel = Channel.get(Channel.kind == kind)
        return found


def add_webhook(name: str, url: str) -> Channel:
    """Add and return a Slack channel."""
    with connection():
        return Channel.create(name=name, kind="slack", settings={"webhook_url": url})

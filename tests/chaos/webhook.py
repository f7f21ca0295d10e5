"""Webhooks for the chaos tests: HTTP servers that record each alert and its time."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from support import fake_http_server

#: Pattern of the anomaly id in a Slack message.
ANOMALY = re.compile(rb"Anomaly `([0-9a-f-]{36})`")
HEALTHY = fake_http_server.answer(200, "ok")


class ReceivedAlert(NamedTuple):
    """Received alert: time in seconds since the Unix epoch, anomaly, and whether the server accepted the alert."""

    at: float
    anomaly_id: str
    is_accepted: bool


@dataclass
class Webhook:
    """Server of one channel, and the alerts that the server received."""

    name: str
    server: fake_http_server.Server
    alerts: list[ReceivedAlert] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        return self.server.behaviour is HEALTHY

    @property
    def url(self) -> str:
        return self.server.url

    def record(self, request: fake_http_server.Received) -> None:
        """Record the alert in a request, but not the whole body, to save memory."""
        if match := ANOMALY.search(request.body):
            self.alerts.append(ReceivedAlert(time.time(), match[1].decode(), self.is_healthy))

    def received_counts(self) -> Counter[str]:
        """Return the number of received alerts, accepted or not, by anomaly id."""
        return Counter(alert.anomaly_id for alert in list(self.alerts))

    def accepted_counts(self) -> Counter[str]:
        """Return the number of accepted alerts by anomaly id."""
        return Counter(alert.anomaly_id for alert in list(self.alerts) if alert.is_accepted)


@contextlib.contextmanager
def webhook(name: str) -> Iterator[Webhook]:
    """Run a healthy webhook during the block, and yield it."""
    with fake_http_server.running(HEALTHY) as server:
        running = Webhook(name, server)
        server.record = running.record
        yield running

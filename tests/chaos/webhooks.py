"""Channels of ours to tell of anomalies: real HTTP servers that note what they are sent, and when."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from support import fake_http_server

#: As a Slack message shows it.
ANOMALY = re.compile(rb"Anomaly `([0-9a-f-]{36})`")
WELL = fake_http_server.answer(200, "ok")


class Inbox(list[fake_http_server.Received]):
    """What a server received; `told` has of each the time (since 1970), the anomaly, and whether it was taken."""

    def __init__(self, webhook: "Webhook") -> None:
        super().__init__()
        self.webhook = webhook

    def append(self, received: fake_http_server.Received) -> None:
        if found := ANOMALY.search(received.body):
            self.webhook.told.append((time.time(), found[1].decode(), self.webhook.is_well))


@dataclass
class Webhook:
    """A channel's server. It keeps no requests, only what they told."""

    name: str
    server: fake_http_server.Server
    told: list[tuple[float, str, bool]] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return self.server.behaviour is WELL

    @property
    def url(self) -> str:
        return self.server.url

    def times_told(self) -> Counter[str]:
        """How often it was sent each anomaly, whatever it answered."""
        return Counter(anomaly_id for _, anomaly_id, _ in list(self.told))

    def times_taken(self) -> Counter[str]:
        """How often it took each anomaly."""
        return Counter(anomaly_id for _, anomaly_id, taken in list(self.told) if taken)


@contextlib.contextmanager
def webhook(name: str) -> Iterator[Webhook]:
    """A well one."""
    with fake_http_server.running() as server:
        made = Webhook(name, server)
        server.received = Inbox(made)
        server.behaviour = WELL
        yield made

"""Faults of one channel while another channel is healthy."""

import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from chaos.context import Context, Fault, Size, percentile
from chaos.recording_client import ACKED
from chaos.server_state import ExpectedAlert, state_of
from chaos.webhook import HEALTHY, Webhook
from support import fake_http_server
from support.waiting import until

Behaviour = Callable[[socket.socket], None]
#: Maximum p95 of the delay in the healthy channel, from the recording of an anomaly to its alert.
MAX_P95_SECONDS = 2.0
#: Maximum wait for the alerts of the healthy channel after the fault.
WAIT_SECONDS = 10.0


def reset(connection: socket.socket) -> None:
    """Close the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


#: Description and behaviour of each fault. A behaviour given as text is the name of a method of
#: `fake_http_server.Server`.
BEHAVIOURS: dict[str, tuple[str, Behaviour | str]] = {
    "healthy": ("Both channels are healthy, as a baseline.", HEALTHY),
    "hangs": ("One of two channels does not respond for 10 s.", "hang"),
    "500": ("One of two channels responds with 500 for 10 s.", fake_http_server.answer(500)),
    "429": (
        "One of two channels responds with 429 and `Retry-After: 3` for 10 s.",
        fake_http_server.answer(429, Retry_After="3"),
    ),
    "resets": ("One of two channels resets its connections for 10 s.", reset),
    "byte-by-byte": ("One of two channels sends one byte at a time for 10 s.", "drip"),
}


class ChannelFault:
    """Fault in which the first channel has the behaviour `BEHAVIOURS[how]` for 10 s, or for 4 s in the short form."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, context: Context) -> None:
        first, second = context.system.webhooks
        _, behaviour = BEHAVIOURS[self.how]
        first.server.behaviour = getattr(first.server, behaviour) if isinstance(behaviour, str) else behaviour
        context.wait(4 if context.is_short else 10)
        first.server.behaviour = HEALTHY
        context.notes["failed_attempts"] = sum(not each.is_accepted for each in first.alerts)
        context.wait(1)
        # Events that are not stored have no alerts yet: this number shows whether the fault delays the storage.
        context.notes["not_stored"] = len(context.client.with_outcome(ACKED) - set(context.system.locations().stored))
        alerts = state_of(context.system).alerts()
        with suppress(AssertionError):
            until(lambda: alerts.keys() <= set(second.received_counts()), WAIT_SECONDS)
        p95 = record_delays(context, second, alerts)
        context.expect(f"p95 of the delay in the healthy channel: {p95} s", p95 is not None and p95 < MAX_P95_SECONDS)


def record_delays(context: Context, healthy: Webhook, alerts: Mapping[str, ExpectedAlert]) -> float | None:
    """Record the times from anomalies to their alerts in the healthy channel; return their p95 in seconds.

    Return None if there are no anomalies. A missing alert counts as received now. `context.notes` also gets the times
    from the acceptance of the events to their alerts.
    """
    now, acked = time.time(), context.client.acked_at()
    monotonic_offset = now - time.monotonic()
    received: dict[str, float] = {}
    for alert in healthy.alerts:
        received.setdefault(alert.anomaly_id, alert.at)
    delays = sorted(received.get(anomaly_id, now) - alert.at for anomaly_id, alert in alerts.items())
    pairs = [(received.get(anomaly_id, now), acked.get(alert.event_id)) for anomaly_id, alert in alerts.items()]
    accepted = sorted(at - (monotonic_offset + accepted_at) for at, accepted_at in pairs if accepted_at is not None)
    p95 = percentile(delays, 0.95)
    context.notes["alerts"] = len(alerts)
    context.notes["healthy_channel_missing"] = len(alerts.keys() - received.keys())
    context.notes["healthy_channel_p95_seconds"] = p95
    context.notes["healthy_channel_max_seconds"] = max(delays, default=None)
    context.notes["healthy_channel_p95_seconds_from_acceptance"] = percentile(accepted, 0.95)
    context.notes["healthy_channel_max_seconds_from_acceptance"] = max(accepted, default=None)
    return p95


FAULTS = [
    Fault(
        f"webhook-{how}",
        description,
        ChannelFault(how),
        Size(1, 3_000, 100.0),
        Size(1, 1_000, 100.0),
        idle_within=150,
    )
    for how, (description, _) in BEHAVIOURS.items()
]

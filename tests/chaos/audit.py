"""Audit of a finished run: comparison of the records of the client and of the webhooks with the state of the system."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from chaos.oracle import wrong_anomalies
from chaos.recording_client import ACKED, INDETERMINATE, REJECTED, RecordingClient
from chaos.server_state import ExpectedAlert, RecordedDelivery, ServerState
from chaos.system import EventLocations
from chaos.webhook import Webhook

SAMPLES = 3
#: Kinds of violation, in the order of the report.
VIOLATIONS = (
    "lost",
    "wrongly_dead_lettered",
    "unexpected",
    "duplicate_rows",
    "unevaluated",
    "wrong_anomalies",
    "duplicate_anomalies",
    "missing_deliveries",
    "unrecorded_deliveries",
    "stranded",
    "unaccounted",
)


@dataclass
class Audit:
    """Numbers of events by outcome, numbers of violations by kind, and at most `SAMPLES` ids of each kind."""

    sent: int = 0
    acked: int = 0
    rejected: int = 0
    indeterminate: int = 0
    dead: int = 0
    anomalies: int = 0
    deliveries: int = 0
    #: Number of repeated alerts that a channel accepted; a crash can cause such duplicates.
    duplicate_deliveries: int = 0
    #: Maximum time in seconds from the recording of an anomaly until a channel accepted its alert.
    slowest_alert: float | None = None
    #: Recorded delivery of the slowest alert.
    slowest_delivery: RecordedDelivery | None = None
    violations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VIOLATIONS, 0))
    samples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, violation: str, ids: Set[Any] | Mapping[Any, int]) -> None:
        """Add violations of one kind.

        `ids` is a set with one violation for each id, or a mapping from ids to numbers of violations.
        """
        count = sum(ids.values()) if isinstance(ids, Mapping) else len(ids)
        self.violations[violation] += count
        if count:
            self.samples[violation] = sorted(map(str, ids))[:SAMPLES]


def audit(system: Any, client: RecordingClient, before: EventLocations, expected_dead: Set[str] = frozenset()) -> Audit:
    """Return the audit of the events that `client` sent, of their anomalies and of their deliveries.

    `before` contains the locations at the start of the run. Only the events in `expected_dead` may be dead-lettered.
    """
    now = system.locations()
    result = Audit(
        sent=len(client.sent),
        acked=len(client.with_outcome(ACKED)),
        rejected=len(client.with_outcome(REJECTED)),
        indeterminate=len(client.with_outcome(INDETERMINATE)),
        dead=len(now.dead - before.dead),
    )
    acked, stored = client.with_outcome(ACKED), set(now.stored)
    result.add("lost", acked - stored - now.dead)
    result.add("wrongly_dead_lettered", (now.dead - before.dead) & set(client.sent) - expected_dead)
    result.add("unaccounted", acked - stored - now.dead - set(now.in_progress))
    expected = acked | client.with_outcome(INDETERMINATE) | set(before.stored)
    result.add("unexpected", stored - expected)
    result.add("duplicate_rows", Counter({event_id: rows - 1 for event_id, rows in now.stored.items() if rows > 1}))
    result.add("stranded", now.stranded)
    state = getattr(system, "state", None)
    if state is None:
        _add_evaluations(result, system.evaluations(), acked & stored)
        _add_alerts(result, system.alerts(), system.webhooks)
    else:
        _add_anomalies(result, state)
        _add_deliveries(result, state, getattr(system, "webhooks", []))
    return result


def _add_evaluations(result: Audit, evaluations: Mapping[str, int], stored: Set[str]) -> None:
    result.add("duplicate_anomalies", Counter({each: times - 1 for each, times in evaluations.items() if times > 1}))
    result.add("unevaluated", {event_id for event_id in stored if not evaluations.get(event_id)})


def _add_anomalies(result: Audit, state: ServerState) -> None:
    anomalies = state.anomaly_counts()
    result.anomalies = len(anomalies)
    result.add("wrong_anomalies", wrong_anomalies(state))
    result.add("duplicate_anomalies", Counter({each: times - 1 for each, times in anomalies.items() if times > 1}))


def _add_deliveries(result: Audit, state: ServerState, webhooks: list[Webhook]) -> None:
    recorded, alerts = state.deliveries(), state.alerts()
    result.deliveries = len(recorded)
    for webhook in webhooks:
        deliveries = {each.anomaly_id: each for each in recorded if each.channel_name == webhook.name}
        _add_webhook(result, webhook, alerts, deliveries)
        received = webhook.received_counts()
        unrecorded = {
            each for each, times in received.items() if each not in deliveries or times > deliveries[each].attempts
        }
        result.add("unrecorded_deliveries", unrecorded)


def _add_alerts(result: Audit, alerts: Mapping[str, ExpectedAlert], webhooks: list[Webhook]) -> None:
    """Add the alerts that the channels accepted, for a system that does not record deliveries."""
    result.anomalies = len(alerts)
    for webhook in webhooks:
        result.deliveries += len(webhook.accepted_counts())
        _add_webhook(result, webhook, alerts, {})


def _add_webhook(
    result: Audit, webhook: Webhook, alerts: Mapping[str, ExpectedAlert], deliveries: Mapping[str, RecordedDelivery]
) -> None:
    accepted = webhook.accepted_counts()
    result.duplicate_deliveries += sum(times - 1 for times in accepted.values() if times > 1)
    result.add("missing_deliveries", alerts.keys() - set(accepted))
    for alert in webhook.alerts:
        delay = alert.at - alerts[alert.anomaly_id].at if alert.anomaly_id in alerts else 0.0
        if alert.is_accepted and delay > (result.slowest_alert or 0.0):
            result.slowest_alert, result.slowest_delivery = delay, deliveries.get(alert.anomaly_id)

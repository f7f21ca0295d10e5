"""The account after everything has come to rest: what was promised, against what is there."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from chaos.judging import wrong_anomalies
from chaos.ledger import ACKED, INDETERMINATE, REFUSED, Ledger
from chaos.observing import Alarm, Delivered, Observed
from chaos.system import Holdings, Plant
from chaos.webhooks import Webhook

SAMPLES = 3
#: Every kind of trouble that an account may find, in the order in which it is told.
TROUBLES = (
    "lost",
    "harmed",
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
class Account:
    """Counts of events by outcome, and of each trouble; `samples` names a few of those concerned."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    indeterminate: int = 0
    dead: int = 0
    anomalies: int = 0
    deliveries: int = 0
    #: An announcement that a channel took more than once; a crash may do that.
    duplicate_deliveries: int = 0
    #: From the recording of an anomaly to the moment when a channel took it, in seconds, and which that was.
    slowest_alert: float | None = None
    slowest_delivery: Delivered | None = None
    troubles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TROUBLES, 0))
    samples: dict[str, list[str]] = field(default_factory=dict)

    def find(self, trouble: str, concerned: Set[Any] | Mapping[Any, int]) -> None:
        """Note those that a trouble index_keys; of a mapping, as often as it says."""
        count = sum(concerned.values()) if isinstance(concerned, Mapping) else len(concerned)
        self.troubles[trouble] += count
        if count:
            self.samples[trouble] = sorted(map(str, concerned))[:SAMPLES]


def settle(plant: Plant, ledger: Ledger, before: Holdings, doomed: Set[str] = frozenset()) -> Account:
    """Compare what `ledger` was told with where the events are.

    `before` is what was there when it began; the `doomed` were meant to be dead-lettered: no others.
    """
    now = plant.holdings()
    made = Account(
        sent=len(ledger.sent),
        acked=len(ledger.of(ACKED)),
        refused=len(ledger.of(REFUSED)),
        indeterminate=len(ledger.of(INDETERMINATE)),
        dead=len(now.dead - before.dead),
    )
    acked, stored = ledger.of(ACKED), set(now.stored)
    made.find("lost", acked - stored - now.dead)
    made.find("harmed", (now.dead - before.dead) & set(ledger.sent) - doomed)
    made.find("unaccounted", acked - stored - now.dead - set(now.underway))
    expected = acked | ledger.of(INDETERMINATE) | set(before.stored)
    made.find("unexpected", stored - expected)
    made.find("duplicate_rows", Counter({event_id: rows - 1 for event_id, rows in now.stored.items() if rows > 1}))
    made.find("stranded", now.stranded)
    observed = getattr(plant, "observed", None)
    if observed is None:
        _of_effects(made, plant.evaluations(), acked & stored)
        _of_alarms(made, plant.alarms(), plant.webhooks)
    else:
        _of_findings(made, observed)
        _of_deliveries(made, observed, getattr(plant, "webhooks", []))
    return made


def _of_effects(made: Account, evaluations: Mapping[str, int], stored: Set[str]) -> None:
    made.find("duplicate_anomalies", Counter({each: times - 1 for each, times in evaluations.items() if times > 1}))
    made.find("unevaluated", {event_id for event_id in stored if not evaluations.get(event_id)})


def _of_findings(made: Account, observed: Observed) -> None:
    found = observed.findings()
    made.anomalies = len(found)
    made.find("wrong_anomalies", wrong_anomalies(observed))
    made.find("duplicate_anomalies", Counter({each: times - 1 for each, times in found.items() if times > 1}))


def _of_deliveries(made: Account, observed: Observed, webhooks: list[Webhook]) -> None:
    recorded, alarms = observed.deliveries(), observed.alarms()
    made.deliveries = len(recorded)
    for webhook in webhooks:
        mine = {each.anomaly_id: each for each in recorded if each.channel_name == webhook.name}
        _of_webhook(made, webhook, alarms, mine)
        told = webhook.times_told()
        unrecorded = {each for each, times in told.items() if each not in mine or times > mine[each].attempts}
        made.find("unrecorded_deliveries", unrecorded)


def _of_alarms(made: Account, alarms: Mapping[str, Alarm], webhooks: list[Webhook]) -> None:
    """Of those who record no deliveries: what the channels took."""
    made.anomalies = len(alarms)
    for webhook in webhooks:
        made.deliveries += len(webhook.times_taken())
        _of_webhook(made, webhook, alarms, {})


def _of_webhook(made: Account, webhook: Webhook, alarms: Mapping[str, Alarm], mine: Mapping[str, Delivered]) -> None:
    taken = webhook.times_taken()
    made.duplicate_deliveries += sum(times - 1 for times in taken.values() if times > 1)
    made.find("missing_deliveries", alarms.keys() - set(taken))
    for at, alarm_id, is_taken in webhook.told:
        delay = at - alarms[alarm_id].at if alarm_id in alarms else 0.0
        if is_taken and delay > (made.slowest_alert or 0.0):
            made.slowest_alert, made.slowest_delivery = delay, mine.get(alarm_id)

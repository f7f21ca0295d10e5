"""The whole timetable: what is done how often, and why."""

from collections.abc import Callable
from dataclasses import dataclass

from actors.pipeline import notify
from actors.recovery import dead_letters, pending_evaluations
from actors.rule_state import rulebook
from eventpulse.settings import Settings
from schedules.retention import drop_old_anomalies, drop_old_events
from schedules.rollup import roll_up


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Something to do again and again."""

    every_seconds: float
    act: Callable[[], object]


def timetable(settings: Settings) -> dict[str, PeriodicJob]:
    """Every duty by its name. Each may run twice or late without harm."""
    return {
        # Heals a change of the rules whose announcement was missed, and a Redis that was emptied.
        "publish_rules": PeriodicJob(5, rulebook.publish),
        # An anomaly is announced even when its worker died between recording it and queueing its notifications.
        "resend_overdue_deliveries": PeriodicJob(5, notify.requeue_overdue),
        # What was lost on its way from being stored to being evaluated is evaluated after all.
        "resume_handovers": PeriodicJob(10, pending_evaluations.resume),
        # Operators see a dead letter soon after its death.
        "reconcile_dead_letters": PeriodicJob(2, dead_letters.reconcile),
        # The minute that is passing is rolled up again and again, so that the last one is complete.
        "roll_up_throughput": PeriodicJob(10, roll_up),
        "drop_old_events": PeriodicJob(600, lambda: drop_old_events(settings.event_retention_days)),
        "drop_old_anomalies": PeriodicJob(600, lambda: drop_old_anomalies(settings.anomaly_retention_days)),
    }

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
class Duty:
    """Something to do again and again."""

    every_seconds: float
    act: Callable[[], object]


def timetable(settings: Settings) -> dict[str, Duty]:
    """Every duty by its name. Each may run twice or late without harm."""
    return {
        # Heals a change of the rules whose announcement was missed, and a Redis that was emptied.
        "publish_rules": Duty(5, rulebook.publish),
        # An anomaly is announced even when its worker died between recording it and queueing its notifications.
        "resend_overdue_deliveries": Duty(5, notify.resend_overdue),
        # What was lost on its way from being stored to being evaluated is evaluated after all.
        "resume_handovers": Duty(10, pending_evaluations.resume),
        # Operators see a dead letter soon after its death.
        "reconcile_dead_letters": Duty(2, dead_letters.reconcile),
        # The minute that is passing is rolled up again and again, so that the last one is complete.
        "roll_up_throughput": Duty(10, roll_up),
        "drop_old_events": Duty(600, lambda: drop_old_events(settings.event_retention_days)),
        "drop_old_anomalies": Duty(600, lambda: drop_old_anomalies(settings.anomaly_retention_days)),
    }

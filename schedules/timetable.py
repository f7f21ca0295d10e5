"""All periodic jobs. A new job needs a function in a separate module, and a line in this file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from actors.pipeline.storms import record_storms
from actors.recovery import dead_letters, overdue_deliveries, pending_evaluations
from actors.rule_state import rulebook
from actors.rule_state.release import StateRelease
from actors.rule_state.survey import StateSurvey
from eventpulse.settings import Settings
from schedules import retention
from schedules.rollup import roll_up


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Function and the interval between its runs. Late or repeated runs of the function must be harmless."""

    every_seconds: float
    run: Callable[[], object]


def timetable(settings: Settings) -> dict[str, PeriodicJob]:
    """Return all periodic jobs by name."""
    return {
        # Publishes the rules again if Redis lost its data or the API could not publish a change.
        "publish_rules": PeriodicJob(5, rulebook.publish),
        # Deletes the windows and cooldowns of rules that are no longer in force.
        "release_rule_state": PeriodicJob(0.25, StateRelease().run),
        # Measures the state of all rules, degrades rules above their budget, and deletes state that was not released.
        "survey_rule_state": PeriodicJob(60, StateSurvey(settings.rule_memory_mb).run),
        # Wakes the channels whose wake-up was lost, for example because the worker crashed after recording an anomaly.
        "wake_overdue_channels": PeriodicJob(5, overdue_deliveries.wake_overdue),
        "expire_deliveries": PeriodicJob(10, partial(overdue_deliveries.expire, settings.delivery_max_age_hours)),
        "announce_failing_channels": PeriodicJob(5, overdue_deliveries.announce_failing_channels),
        # Queues stored events again if their evaluation was lost.
        "requeue_stale_events": PeriodicJob(10, pending_evaluations.requeue),
        # Moves dead letters from Redis to PostgreSQL, where `eventpulse dlq` reads them.
        "reconcile_dead_letters": PeriodicJob(2, dead_letters.reconcile),
        # Reports the firings above the caps of a rule, one anomaly for each rule and minute.
        "record_storms": PeriodicJob(5, partial(record_storms, settings.storm_minutes)),
        "roll_up_throughput": PeriodicJob(10, roll_up),
        "drop_old_events": PeriodicJob(600, partial(retention.drop_old_events, settings.event_retention_days)),
        "drop_old_anomalies": PeriodicJob(600, partial(retention.drop_old_anomalies, settings.anomaly_retention_days)),
        "drop_old_dead_letters": PeriodicJob(
            600, partial(retention.drop_old_dead_letters, settings.dead_letter_retention_days)
        ),
        "drop_old_throughput": PeriodicJob(
            600, partial(retention.drop_old_throughput, settings.throughput_retention_days)
        ),
        "drop_old_suppressed_firings": PeriodicJob(60, retention.drop_old_suppressed_firings),
    }

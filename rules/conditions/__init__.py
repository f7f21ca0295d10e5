"""Registry of condition types: one file and one line for each."""

from collections.abc import Mapping
from typing import Any

from rules.conditions.base import ConditionSchema
from rules.conditions.invalid_payload import InvalidPayloadSchema
from rules.conditions.rate_spike import RateSpikeSchema
from rules.conditions.threshold import ThresholdSchema
from rules.conditions.timestamp_drift import TimestampDriftSchema
from rules.conditions.zscore import ZScoreSchema

#: The schema of each condition type by its name.
CONDITIONS: dict[str, type[ConditionSchema]] = {
    "threshold": ThresholdSchema,
    "rate_spike": RateSpikeSchema,
    "invalid_payload": InvalidPayloadSchema,
    "timestamp_drift": TimestampDriftSchema,
    "zscore": ZScoreSchema,
}


def warnings(condition: Mapping[str, Any]) -> list[str]:
    """Return what an administrator should know about a condition; empty if this version does not support it."""
    schema = CONDITIONS.get(str(condition.get("type")))
    return schema().warnings(condition) if schema else []

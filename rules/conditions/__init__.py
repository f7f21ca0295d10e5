"""Registry of condition types: each type has a file in this folder, and a line in this file."""

from collections.abc import Mapping
from typing import Any

from rules.conditions.base import ConditionSchema
from rules.conditions.invalid_payload import InvalidPayloadSchema
from rules.conditions.rate_spike import RateSpikeSchema
from rules.conditions.threshold import ThresholdSchema
from rules.conditions.timestamp_drift import TimestampDriftSchema
from rules.conditions.zscore import ZScoreSchema

#: Schema of each condition type, by the name of the type.
CONDITIONS: dict[str, type[ConditionSchema]] = {
    "threshold": ThresholdSchema,
    "rate_spike": RateSpikeSchema,
    "invalid_payload": InvalidPayloadSchema,
    "timestamp_drift": TimestampDriftSchema,
    "zscore": ZScoreSchema,
}


def warnings(condition: Mapping[str, Any]) -> list[str]:
    """Return warnings about a condition, for administrators; no warnings if the type is unsupported."""
    schema = CONDITIONS.get(str(condition.get("type")))
    return schema().warnings(condition) if schema else []

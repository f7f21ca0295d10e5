"""Unusually many events, against what is usual for their group."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import Filters, Number, Path, Whole
from rules.event import moment
from rules.scope import Scope
from rules.verdict import Selection, Verdict, events
from rules.windows.queries import Buckets, WindowResult

RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ZScore:
    """Fires for an event when its bucket's count is `threshold` standard deviations above the mean of the baseline.

    The standard score against a trailing baseline: W. A. Shewhart's control chart (Economic Control of Quality
    of Manufactured Product, 1931), with the baseline's population mean and deviation. A deviation below one
    event counts as one, so that an even flow does not make its first extra event an alarm.
    """

    windowed: ClassVar[Literal[True]] = True
    scope: Scope
    threshold: float
    bucket_seconds: int
    question: Buckets

    def judge(self, sighting: WindowResult, where: str) -> Verdict:
        length = self.question.baseline
        mean = sighting.total / length
        deviation = sqrt(length * sighting.squares - sighting.total**2) / length
        score = (sighting.count - mean) / max(deviation, 1)
        found = f"{events(sighting.count)} in {self.bucket_seconds} s"
        reason = f"{found}, {score:.1f} deviations above the usual {mean:.1f}{where}"
        details = {"count": sighting.count, "mean": mean, "deviation": deviation, "bucket_seconds": self.bucket_seconds}
        return Verdict(score >= self.threshold, reason, score, self.threshold, details)

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        """The events of the whole bucket. It includes its start, a selection does not."""
        start = moment(at - at % self.question.size) - RESOLUTION
        return Selection(self.scope.equal(group), start, start + timedelta(seconds=self.bucket_seconds))


class ZScoreSchema(ConditionSchema):
    type = fields.String(required=True, validate=validate.Equal("zscore"))
    filters = Filters(load_default=dict)
    group_by = fields.List(Path(), load_default=list)
    bucket_seconds = Whole(1, 86_400, required=True)
    baseline_buckets = Whole(2, 1_000, required=True)
    threshold = Number(required=True, validate=validate.Range(0, min_inclusive=False))

    def build(self, values: Mapping[str, Any]) -> ZScore:
        scope = Scope.of(values["filters"], values["group_by"])
        size = values["bucket_seconds"]
        asked = Buckets.of(size, values["baseline_buckets"], values["allowed_lateness_seconds"])
        return ZScore(scope, values["threshold"], size, asked)

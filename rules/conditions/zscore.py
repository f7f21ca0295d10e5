"""Condition type `zscore`: far more events of a group than usual."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import BoundedInteger, Filters, GroupBy, StrictNumber
from rules.event import moment
from rules.scope import Scope
from rules.verdict import Selection, Verdict, format_count
from rules.windows.queries import COUNT_ERROR, BucketBaseline, WindowResult

RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ZScore:
    """Condition that fires if an event's bucket is at least `threshold` standard deviations above the baseline's mean.

    The baseline consists of the `query.baseline` buckets before the bucket of the event. The score is the standard
    score with the population mean and deviation of the baseline, as in W. A. Shewhart's control chart (Economic Control
    of Quality of Manufactured Product, 1931). A deviation below one event counts as one event: otherwise the condition
    would fire for the first additional event after constant traffic.

    Counts above `query.exact` are estimates with the standard error `COUNT_ERROR`. If the count of the event's bucket
    is an estimate, a deviation below `COUNT_ERROR` times the mean counts as this much: otherwise the condition would
    fire because of the error after nearly constant traffic.
    """

    windowed: ClassVar[Literal[True]] = True
    value_of: ClassVar[None] = None
    scope: Scope
    threshold: float
    bucket_seconds: int
    query: BucketBaseline

    def evaluate(self, result: WindowResult, group_suffix: str) -> Verdict:
        length = self.query.baseline
        mean = result.total / length
        deviation = sqrt(length * result.squares - result.total**2) / length
        estimated = result.count > self.query.exact
        score = (result.count - mean) / max(deviation, 1, COUNT_ERROR * mean if estimated else 0)
        found = f"{'about ' if estimated else ''}{format_count(result.count)} in {self.bucket_seconds} s"
        reason = f"{found}, {score:.1f} standard deviations above the mean of {mean:.1f}{group_suffix}"
        details = {"count": result.count, "mean": mean, "deviation": deviation, "bucket_seconds": self.bucket_seconds}
        if estimated:
            details["count_error"] = COUNT_ERROR
        return Verdict(score >= self.threshold, reason, score, self.threshold, details)

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        """Return the selection of the whole bucket; `after`, which a selection excludes, is just before the bucket."""
        start = moment(at - at % self.query.size) - RESOLUTION
        return Selection(self.scope.equal(group), start, start + timedelta(seconds=self.bucket_seconds))


class ZScoreSchema(ConditionSchema):
    """Fields of a `zscore` condition."""

    type = fields.String(required=True, validate=validate.Equal("zscore"))
    filters = Filters()
    group_by = GroupBy()
    bucket_seconds = BoundedInteger(1, 86_400, required=True)
    baseline_buckets = BoundedInteger(2, 1_000, required=True)
    threshold = StrictNumber(required=True, validate=validate.Range(0, min_inclusive=False))

    def build(self, values: Mapping[str, Any]) -> ZScore:
        scope = Scope.of(values["filters"], values["group_by"])
        size = values["bucket_seconds"]
        query = BucketBaseline.of(size, values["baseline_buckets"], values["allowed_lateness_seconds"])
        return ZScore(scope, values["threshold"], size, query)

"""Message of an anomaly, as shown in alerts."""

from rules.engine.series import Firing
from rules.verdict import format_count, format_group


def explain(firing: Firing, count: int | None = None, count_is_lower_bound: bool = False) -> str:
    """Return a message such as "High error rate: 6 events in 60 s, more than 5 (source=checkout)".

    `count` is the number of stored events in the selection of the firing, or None. The message contains `count` if
    the verdict contains only a lower bound; `count_is_lower_bound`: whether `count` is a lower bound too.
    """
    verdict = firing.verdict
    limit = verdict.details.get("limit")
    if count is None or limit is None:
        return f"{firing.rule.name}: {verdict.reason}"
    # `count` is too low if retention has deleted events that the window counted.
    found = format_count(max(count, int(verdict.observed)))
    if count_is_lower_bound:
        found = f"at least {found}"
    return f"{firing.rule.name}: {found} in {verdict.details['window_seconds']} s, {limit}{format_group(firing.group)}"

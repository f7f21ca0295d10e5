"""The message of an anomaly: what was found, in one line, as it reads in an alert."""

from rules.engine.evaluate import Firing
from rules.verdict import events, words


def explain(firing: Firing, count: int | None = None) -> str:
    """Say why a rule fired, such as "High error rate: 6 events in 60 s, more than 5 (source=checkout)".

    `count` is what the firing's selection really holds, when it is known. It is told where the rule
    itself only knows that there are enough.
    """
    verdict = firing.verdict
    limit = verdict.details.get("limit")
    if count is None or limit is None:
        return f"{firing.rule.name}: {verdict.reason}"
    # Fewer may be stored than were seen, when retention was quicker than this rule.
    found = events(max(count, int(verdict.observed)))
    return f"{firing.rule.name}: {found} in {verdict.details['window_seconds']} s, {limit}{words(firing.group)}"

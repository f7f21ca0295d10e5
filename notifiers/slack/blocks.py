"""One anomaly as a Slack message: Block Kit inside a coloured bar, within Slack's limits, safe from what payloads say.

Slack refuses a message whose section is over 3,000 characters or whose field is over 2,000. What is cut here is cut far
earlier: nobody reads that much at night, and the limits then hold however Slack counts characters.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from notifiers.base import Notification
from notifiers.text import ELLIPSIS, delay, duration, headline, label, one_line

COLOURS = {"critical": "#d92d20", "warning": "#f79009", "info": "#2e90fa"}
TITLE, MESSAGE, FIELD, EVIDENCE_LINE, FALLBACK = 150, 1000, 300, 300, 1000
EVIDENCE_LINES = 3
MAX_URL_CHARACTERS = 2000
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def message(notification: Notification) -> dict[str, Any]:
    """The body to post to an incoming webhook. `text` is what notifications and old clients show."""
    return {
        "text": escaped(headline(notification), FALLBACK),
        "blocks": [_section(_title(notification))],
        "attachments": [
            {"color": COLOURS.get(notification.severity, "#667085"), "blocks": list(_details(notification))}
        ],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def escaped(text: str, limit: int) -> str:
    """The text with `& < >` escaped, in one line, cut to at most `limit` characters, but never inside an escape.

    Without the escapes a payload could call everyone (`<!channel>`) or plant a link.
    """
    safe = one_line(text, limit).translate(ESCAPES)
    if len(safe) <= limit:
        return safe
    cut = safe[: limit - len(ELLIPSIS)]
    entity = cut.rfind("&")
    if entity != -1 and ";" not in cut[entity:]:
        cut = cut[:entity]
    return cut + ELLIPSIS


def _link(url: str, text: str) -> str:
    """Return a link with this text, which is already escaped; only the text if the URL is too long for Slack."""
    target = url.replace("|", "%7C").translate(ESCAPES)
    return f"<{target}|{text}>" if len(target) <= MAX_URL_CHARACTERS else text


def _title(notification: Notification) -> str:
    title = escaped(f"{label(notification)}: {notification.rule_name}", TITLE)
    if notification.link is not None:
        title = _link(notification.link, title)
    return f"*{title}*"


def _details(notification: Notification) -> Iterator[dict[str, Any]]:
    found = notification.message.removeprefix(f"{notification.rule_name}: ")  # the title has the name already
    yield _section(escaped(found or "No details.", MESSAGE))  # Slack refuses empty texts
    yield {"type": "section", "fields": [_text(f"*{name}*\n{value}") for name, value in _fields(notification)]}
    if notification.runbook_url is not None:
        yield _section(_link(notification.runbook_url, "Runbook"))
    if lines := notification.evidence[:EVIDENCE_LINES]:
        yield _section("*Evidence*\n```" + "\n".join(_code(line, EVIDENCE_LINE) for line in lines) + "```")
    ids = {"Anomaly": notification.anomaly_id, "Event": notification.event_id, "Rule": notification.rule_id}
    yield {
        "type": "context",
        "elements": [
            _text(f"Detected {_time(notification.detected_at)}{delay(notification)}"),
            *(_text(f"{name} `{_code(value, FIELD)}`") for name, value in ids.items()),
        ],
    }


def _fields(notification: Notification) -> Iterator[tuple[str, str]]:
    yield "Observed", escaped(notification.observed, FIELD)
    yield "Threshold", escaped(notification.threshold, FIELD)
    if notification.window_seconds:
        yield "Window", duration(notification.window_seconds)
    yield "Happened", _time(notification.occurred_at)


def _code(text: str, limit: int) -> str:
    """Text that may stand between backticks, where Slack changes nothing else."""
    return escaped(text.replace("`", "'"), limit)


def _time(moment: datetime) -> str:
    """Shown in the reader's own zone; in UTC by clients that cannot."""
    fallback = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time_secs}}|{fallback}>"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> dict[str, Any]:
    # verbatim: Slack makes no links or mentions of its own out of words like @here
    return {"type": "mrkdwn", "text": text, "verbatim": True}

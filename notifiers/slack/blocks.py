"""Layout of a notification as a Slack message: Block Kit blocks, and details beside a coloured bar.

Slack rejects a message with a section of more than 3,000 characters, or a field of more than 2,000. The limits in
this module are lower, because an alert must be short, and because Slack does not document how it counts characters.
https://docs.slack.dev/reference/block-kit/blocks
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from eventpulse.times import display_utc
from notifiers.base import Notification
from notifiers.text import ELLIPSIS, delay_text, duration_text, headline, label, one_line, period_text

COLOURS = {"critical": "#d92d20", "warning": "#f79009", "info": "#2e90fa"}
OTHER_COLOUR = "#667085"
MAX_TITLE_CHARACTERS = 150
MAX_MESSAGE_CHARACTERS = 1000
MAX_FIELD_CHARACTERS = 300
MAX_EVIDENCE_CHARACTERS = 300
MAX_URL_CHARACTERS = 2000
MAX_EVIDENCE_LINES = 3
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def message(notification: Notification) -> dict[str, Any]:
    """Return the JSON body for an incoming webhook. Slack shows `text` in the notifications of phones and desktops."""
    return {
        "text": escaped(headline(notification), MAX_MESSAGE_CHARACTERS),
        "blocks": [_section(_title(notification))],
        "attachments": [
            {"color": COLOURS.get(notification.severity, OTHER_COLOUR), "blocks": list(_details(notification))}
        ],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def escaped(text: str, max_characters: int) -> str:
    """Return the text as one line with `& < >` escaped, cut to at most `max_characters` but not inside an escape.

    Without the escapes, a payload could mention a whole channel (`<!channel>`) or insert a link.
    """
    safe = one_line(text, max_characters).translate(ESCAPES)
    if len(safe) <= max_characters:
        return safe
    cut = safe[: max_characters - len(ELLIPSIS)]
    entity = cut.rfind("&")
    if entity != -1 and ";" not in cut[entity:]:
        cut = cut[:entity]
    return cut + ELLIPSIS


def _title(notification: Notification) -> str:
    title = escaped(f"{label(notification)}: {notification.rule_name}", MAX_TITLE_CHARACTERS)
    if notification.link is not None:
        title = _link(notification.link, title)
    return f"*{title}*"


def _details(notification: Notification) -> Iterator[dict[str, Any]]:
    summary = notification.message.removeprefix(f"{notification.rule_name}: ")  # the title contains the name already
    yield _section(escaped(summary or "No details.", MAX_MESSAGE_CHARACTERS))  # Slack rejects empty texts
    if notification.kind != "digest":
        yield {"type": "section", "fields": [_text(f"*{name}*\n{value}") for name, value in _fields(notification)]}
    if lines := notification.evidence[:MAX_EVIDENCE_LINES]:
        title = "Rules" if notification.kind == "digest" else "Events"
        yield _section(f"*{title}*\n```" + "\n".join(_code(line, MAX_EVIDENCE_CHARACTERS) for line in lines) + "```")
    if notification.runbook_url is not None:
        yield _section(f"*{_link(notification.runbook_url, 'Runbook')}*")
    yield {"type": "context", "elements": [_text(text) for text in _context(notification)]}


def _fields(notification: Notification) -> Iterator[tuple[str, str]]:
    if notification.observed:
        yield "Observed", escaped(notification.observed, MAX_FIELD_CHARACTERS)
        yield "Threshold", escaped(notification.threshold, MAX_FIELD_CHARACTERS)
    if notification.window_seconds:
        yield "Window", duration_text(notification.window_seconds)
    yield "Occurred at", _local_time(notification.occurred_at)


def _context(notification: Notification) -> Iterator[str]:
    if notification.kind == "digest":
        yield period_text(_local_time(notification.occurred_at), _local_time(notification.detected_at))
    else:
        yield f"Detected at {_local_time(notification.detected_at)}{delay_text(notification)}"
    ids = {"Anomaly": notification.anomaly_id, "Event": notification.event_id, "Rule": notification.rule_id}
    for name, value in ids.items():
        if value:
            yield f"{name} `{_code(value, MAX_FIELD_CHARACTERS)}`"


def _code(text: str, max_characters: int) -> str:
    """Return the text escaped for use between backticks, where Slack applies no formatting."""
    return escaped(text.replace("`", "'"), max_characters)


def _link(url: str, text: str) -> str:
    """Return a link with `text`, which must be escaped; return only `text` if the URL is too long for Slack."""
    target = url.replace("|", "%7C").translate(ESCAPES)
    return f"<{target}|{text}>" if len(target) <= MAX_URL_CHARACTERS else text


def _local_time(time: datetime) -> str:
    """Return a time that Slack shows in the reader's time zone, or in UTC if Slack cannot format dates."""
    return f"<!date^{int(time.timestamp())}^{{date_short_pretty}} {{time_secs}}|{display_utc(time)}>"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> dict[str, Any]:
    # `verbatim`: otherwise Slack converts words such as @here into mentions, and URLs into links.
    return {"type": "mrkdwn", "text": text, "verbatim": True}

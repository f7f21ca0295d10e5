"""Tests of alerts in Slack: their layout, their limits, and payloads with markup."""

import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.notification_factory import notification

from notifiers.slack.blocks import COLOURS, escaped, message


def texts(part: Any) -> Iterator[str]:
    """Yield every text in a Slack message or in a part of a message."""
    if isinstance(part, dict):
        if isinstance(part.get("text"), str):
            yield part["text"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from texts(item)


def blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [*body["blocks"], *body["attachments"][0]["blocks"]]


def test_an_alert_has_a_title_a_summary_fields_events_and_ids() -> None:
    body = message(notification())
    assert body["text"] == "CRITICAL: High error rate: 6 events in 60 s, more than 5 (source=payment_service)"
    link = "https://alerts.example/api/v1/anomalies/0193b1a0"
    assert [*texts(body["blocks"])] == [f"*<{link}|CRITICAL: High error rate>*"]
    assert body["attachments"][0]["color"] == COLOURS["critical"]
    summary, fields, evidence, context = body["attachments"][0]["blocks"]
    assert summary["text"]["text"] == "6 events in 60 s, more than 5 (source=payment_service)"
    assert [*texts(fields)] == [
        "*Observed*\n6",
        "*Threshold*\n&gt; 5",
        "*Window*\n1 min",
        "*Occurred at*\n<!date^1795144365^{date_short_pretty} {time_secs}|2026-11-20 03:12:45 UTC>",
    ]
    assert evidence["text"]["text"] == "*Events*\n```03:12:45Z error payment_service code=card_declined```"
    assert "Event `0193b1a0-0000-7000-8000-00000000000c`" in [*texts(context)]


def test_a_test_notification_is_marked() -> None:
    body = message(notification(kind="test", severity="info", link=None))
    assert body["text"].startswith("TEST: ")
    assert [*texts(body["blocks"])] == ["*TEST: High error rate*"]


def test_an_alert_links_to_its_runbook() -> None:
    body = message(notification(runbook_url="https://wiki.example/?page=a|b&c"))
    assert "*<https://wiki.example/?page=a%7Cb&amp;c|Runbook>*" in [*texts(body)]


def test_a_url_that_is_too_long_for_slack_is_left_out() -> None:
    body = message(notification(runbook_url="https://wiki.example/" + "x" * 3000))
    assert "*Runbook*" in [*texts(body)]


def test_parts_that_a_rule_does_not_have_are_left_out() -> None:
    body = message(notification(group={}, window_seconds=0, evidence=[], link=None, message=""))
    assert body["text"] == "CRITICAL: High error rate"
    assert [*texts(body["blocks"])] == ["*CRITICAL: High error rate*"]
    assert "Window" not in json.dumps(body)
    assert "Events" not in json.dumps(body)
    assert "No details." in [*texts(body)]


def test_each_severity_has_a_colour_and_an_unknown_one_is_grey() -> None:
    colours = [
        message(notification(severity=name))["attachments"][0]["color"]
        for name in ("critical", "warning", "info", "odd")
    ]
    assert len(set(colours)) == 4


def test_at_most_three_events_are_shown() -> None:
    body = message(notification(evidence=[f"line {number}" for number in range(9)]))
    assert "*Events*\n```line 0\nline 1\nline 2```" in [*texts(body)]


def test_a_payload_can_neither_mention_people_nor_insert_a_link() -> None:
    evil = "<!channel> <@U1> <https://evil.example|click> & `*_~\n@here"
    body = message(
        notification(
            rule_name=evil,
            message=evil,
            observed=evil,
            threshold=evil,
            group={evil: evil},
            evidence=[evil],
            event_id=evil,
        )
    )
    for text in texts(body):
        rest = re.sub(r"<(!date\^\d+\^[^<>]*|https://alerts\.example/[^<>|]*)\|([^<>]*)>", r"\2", text)
        assert "<" not in rest
        assert ">" not in rest
    assert all(part["verbatim"] for part in _markdown(body))
    evidence = next(text for text in texts(body) if text.startswith("*Events*"))
    assert evidence.count("`") == 6, "the evidence ends its code block"


def _markdown(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if part.get("type") == "mrkdwn":
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _markdown(item)


def test_a_pipe_in_a_url_does_not_end_the_link() -> None:
    assert "*<https://a.example/?a=1&amp;b=%7C|CRITICAL" in next(
        texts(message(notification(link="https://a.example/?a=1&b=|"))["blocks"])
    )


@given(text=st.text(alphabet="&<>ab\n", max_size=60), limit=st.integers(1, 60))
def test_a_text_is_never_cut_inside_an_escape(text: str, limit: int) -> None:
    safe = escaped(text, limit)
    assert len(safe) <= limit
    assert re.fullmatch(r"(&amp;|&lt;|&gt;|[^&<>])*", safe)


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**40))
def test_the_longest_alert_stays_within_the_limits_of_slack(piece: str, number: int) -> None:
    text = piece * 5000
    body = message(
        notification(
            rule_name=text,
            message=text,
            observed=text,
            threshold=text,
            window_seconds=number,
            group={text: text},
            evidence=[text] * 20,
            runbook_url=text,
        )
    )
    assert len(blocks(body)) <= 50
    for block in blocks(body):
        assert all(len(part["text"]) <= 2000 for part in block.get("fields", []))
        assert 0 < len(block.get("text", {"text": "-"})["text"]) <= 3000
        assert len(block.get("elements", [])) <= 10
    assert len(body["text"]) <= 4000
    json.dumps(body).encode()

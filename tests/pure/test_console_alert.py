"""Tests of alerts on a terminal: their text, and payloads with control characters."""

import io
from datetime import UTC, datetime

import pytest
from support.notification_factory import notification

from notifiers.base import Receipt, TryAgain
from notifiers.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _default_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def written(stream: io.StringIO, **fields: object) -> str:
    Console(stream).send(notification(**fields), {})
    return stream.getvalue()


def test_an_alert_is_a_few_lines_and_begins_with_the_severity() -> None:
    assert written(io.StringIO()).splitlines() == [
        "CRITICAL: High error rate: 6 events in 60 s, more than 5 (source=payment_service)",
        "    Observed: 6, threshold: > 5, window: 1 min",
        "    Occurred at 2026-11-20 03:12:45 UTC, detected at 2026-11-20 03:12:45 UTC",
        "    Event: 03:12:45Z error payment_service code=card_declined",
        "    Details: https://alerts.example/api/v1/anomalies/0193b1a0",
    ]


def test_a_test_notification_is_marked() -> None:
    assert written(io.StringIO(), kind="test", severity="info").startswith("TEST: ")


def test_an_alert_shows_its_runbook() -> None:
    alert = written(io.StringIO(), runbook_url="https://wiki.example/payments")
    assert "    Runbook: https://wiki.example/payments\n" in alert


def test_an_alert_without_a_link_has_the_id_of_the_anomaly() -> None:
    assert "Anomaly: 0193b1a0-0000" in written(io.StringIO(), link=None, window_seconds=0)


def test_only_terminals_get_colours_unless_the_environment_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033[1;31mCRITICAL" in written(Terminal())
    assert "\033" not in written(io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\033" in written(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in written(Terminal())


def test_a_payload_cannot_control_the_terminal_or_forge_a_line() -> None:
    evil = "\033]0;owned\a\r\n\u202eCRITICAL: forged\x9b31m\u2028"
    alert = written(
        io.StringIO(),
        rule_name=evil,
        message=evil,
        group={evil: [evil]},
        evidence=[evil],
        observed=evil,
        threshold=evil,
    )
    assert len(alert.splitlines()) == 5
    assert all(char.isprintable() or char == "\n" for char in alert)
    assert "\\x1b]0;owned" in alert


def test_words_of_all_languages_and_emoji_are_not_changed() -> None:
    assert "Zahlung überfällig 👩‍💻 پرداخت" in written(io.StringIO(), message="Zahlung überfällig 👩‍💻 پرداخت")


def test_characters_that_the_stream_cannot_encode_become_escapes() -> None:
    pipe = io.BytesIO()
    stream = io.TextIOWrapper(pipe, encoding="ascii")
    Console(stream).send(notification(message="überfällig"), {})
    assert b"\\xfcberf\\xe4llig" in pipe.getvalue()


def test_long_lines_end_with_an_ellipsis() -> None:
    alert = written(io.StringIO(), message="x" * 10_000, evidence=["y" * 10_000] * 10)
    assert len(alert) < 2_000
    assert alert.count("…") == 4


def test_a_delivery_to_a_closed_console_can_be_retried() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(TryAgain, match="cannot write to the console: ValueError"):
        Console(stream).send(notification(), {})


def test_the_default_stream_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert Console().send(notification(), {}) == Receipt("written to the console")
    assert capsys.readouterr().out.startswith("CRITICAL: High error rate")


def test_an_alert_that_was_detected_late_shows_the_delay() -> None:
    detected = datetime(2026, 11, 20, 3, 16, 0, tzinfo=UTC)
    assert "detected at 2026-11-20 03:16:00 UTC (3 min later)" in written(io.StringIO(), detected_at=detected)

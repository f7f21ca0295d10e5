"""Tests of log lines: JSON and console format, context, and masked secrets."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from eventpulse import logs
from eventpulse.masking import masked


@pytest.fixture(autouse=True)
def original_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_json_line_has_the_time_the_level_the_logger_and_the_bound_context(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(request_id="r-1", event_id="e-1")
    structlog.get_logger("api.resources.events").info("accepted", count=3)
    (line,) = lines(capsys)
    assert line["timestamp"].endswith("Z")
    assert {name: line[name] for name in ("event", "level", "logger", "request_id", "event_id", "count")} == {
        "event": "accepted",
        "level": "info",
        "logger": "api.resources.events",
        "request_id": "r-1",
        "event_id": "e-1",
        "count": 3,
    }


def test_records_of_a_library_have_the_same_format_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(message_id="m-1")
    logging.getLogger("dramatiq.worker").warning("%d messages", 2)
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["message_id"]) == ("2 messages", "warning", "m-1")


def test_an_exception_is_one_string_field(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed too")
    for line in lines(capsys):
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: odd")


def test_records_below_the_level_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    structlog.get_logger().info("detail")
    logging.getLogger("library").info("detail")
    assert lines(capsys) == []


def test_the_info_records_of_an_http_client_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logging.getLogger("httpx").info("HTTP Request: POST …")
    assert lines(capsys) == []


def test_the_console_format_shows_tracebacks_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    try:
        local = "s3cret"
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger().exception("failed", step=local[:2])
    shown = capsys.readouterr().err
    assert "failed" in shown
    assert "ValueError: odd" in shown
    assert "s3cret" not in shown.replace('local = "s3cret"', "")


def test_console_lines_have_no_terminal_escapes_and_a_value_cannot_forge_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "console")
    evil = "/\x1b]52;c;ZXZpbA==\x07\u202e\u200b\ud800"
    structlog.get_logger("api").info(f"request\n{evil}", path=evil, name=f"two words\n{evil}", nested={"path": [evil]})
    logging.getLogger("library").warning("invalid: %s", evil)
    try:
        raise ValueError(evil)
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed too")
    shown = capsys.readouterr().err
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len([line for line in shown.splitlines() if "52;c" in line]) == 4
    assert r"request\n/\x1b]52;c;ZXZpbA==\x07\u202e\u200b\ud800" in shown


def test_auto_is_json_when_stderr_is_not_a_terminal() -> None:
    assert logs.resolve_format("auto") == "json"


def test_no_color_has_precedence_over_force_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert logs.use_colour(sys.stderr)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not logs.use_colour(sys.stderr)


@pytest.mark.parametrize("form", ["json", "console"])
def test_passwords_are_masked_in_every_part_of_a_record(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    url = "postgresql://me:s3cret@db/pulse"
    try:
        raise ConnectionError(f"cannot reach {url}")
    except ConnectionError:
        structlog.get_logger().exception(f"lost {url}", url=url, nested={"urls": [url]})
    logging.getLogger("library").warning("lost %s", url)
    shown = capsys.readouterr().err
    assert "postgresql://me:***@db/pulse" in shown
    assert "s3cret" not in shown.replace('url = "postgresql://me:s3cret@db/pulse"', "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:p@ss/w:rd@host", "redis://user:***@host"),
        ("host=db password=pw user=me", "host=db password=*** user=me"),
        ("at https://hooks.slack.com/services/T0/B0/x1 now", "at https://hooks.slack.com/*** now"),
        ('{"a":"redis://:pw@h","b":"me@example.com"}', '{"a":"redis://:***@h","b":"me@example.com"}'),
        ("http://127.0.0.1:8000/users?mail=me@example.com", "http://127.0.0.1:8000/users?mail=me@example.com"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_masking_replaces_the_secret_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown

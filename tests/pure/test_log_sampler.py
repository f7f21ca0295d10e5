"""Tests of the sampler of log lines: the first lines of a period are logged, and the others are counted."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from support.waiting import until

from eventpulse.log_sampler import LINES, LogSampler, SamplingFilter


@pytest.fixture
def reports() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_lines_above_the_limit_are_omitted_and_reported_once_with_their_number(reports: list[Any]) -> None:
    sampler = LogSampler()
    assert [sampler.admits(of="request", status=404) for _ in range(500)] == [True] * LINES + [False] * (500 - LINES)
    until(lambda: bool(reports))
    event = {"event": "log_lines_omitted", "lines": 500 - LINES, "of": "request", "status": 404, "log_level": "info"}
    assert reports == [event]


def test_after_the_report_lines_are_logged_again(reports: list[Any]) -> None:
    sampler = LogSampler()
    for _ in range(LINES + 1):
        sampler.admits(of="request")
    until(lambda: bool(reports))
    assert sampler.admits(of="request")


def test_lines_with_different_labels_are_counted_separately(reports: list[Any]) -> None:
    sampler = LogSampler()
    assert [sampler.admits(status=400 + number % 2) for number in range(2 * LINES)] == [True] * 2 * LINES


def test_a_period_without_omitted_lines_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventpulse.log_sampler.PERIOD_SECONDS", 0.0)
    sampler = LogSampler()
    assert all(sampler.admits(of="request") for _ in range(LINES * 3))


def test_the_lines_of_a_library_are_sampled(reports: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    library = logging.Logger("library")
    library.addHandler(caplog.handler)
    library.addFilter(SamplingFilter())
    for number in range(100):
        library.warning("Invalid request from ip=%s", number)
    assert len(caplog.records) == LINES
    until(lambda: bool(reports))
    assert [(line["of"], line["lines"]) for line in reports] == [("library", 100 - LINES)]

"""Tests of the check of the origin of a request."""

import pytest

from api.origin import is_allowed

PUBLIC = "https://pulse.example.com"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "127.0.0.1:8001"),
        ("http://127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://LOCALHOST:8001", "localhost:8001"),
        ("http://[::1]:8001", "[::1]:8001"),
        ("https://pulse.internal", "pulse.internal"),
        ("https://pulse.internal:443", "pulse.internal"),
        ("http://pulse.internal", "pulse.internal:80"),
        (PUBLIC, "10.0.0.7:8001"),
        ("http://127.0.0.1:8000", "127.0.0.1:8001"),
    ],
)
def test_requests_of_the_same_origin_of_the_public_url_and_of_the_other_port_are_allowed(
    origin: str | None, host: str
) -> None:
    assert is_allowed(origin, host, PUBLIC, 8000)


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "http://localhost:8001",
        "http://evil.example:8001",
        "http://127.0.0.1:8001.evil.example",
        "http://pulse.example.com",
        "https://pulse.example.com:8443",
        "null",
        "",
        "http://",
        "http://[",
        "http://127.0.0.1:99999",
        "file://",
        "chrome-extension://127.0.0.1:8001x",
    ],
)
def test_requests_of_other_origins_are_not_allowed(origin: str) -> None:
    assert not is_allowed(origin, "127.0.0.1:8001", PUBLIC, 8000)


def test_without_a_public_url_and_another_port_only_the_same_origin_is_allowed() -> None:
    assert not is_allowed(PUBLIC, "127.0.0.1:8001", None)
    assert not is_allowed("http://127.0.0.1:8000", "127.0.0.1:8001", None)
    assert not is_allowed("null", "", None)

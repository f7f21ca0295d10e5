"""Tests of the check of the address on which a server listens."""

import socket

import pytest

from eventpulse.ports import PortError, ensure_free, in_brackets, reachable_host


def test_a_free_port_is_still_free_after_the_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ensure_free("127.0.0.1", port, "EVENTPULSE_PORT")
    ensure_free("127.0.0.1", port, "EVENTPULSE_PORT")


def test_a_port_in_use_is_reported_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"^port {port} on 127\.0\.0\.1 is in use: .* set EVENTPULSE_LIVE_PORT"):
            ensure_free("127.0.0.1", port, "EVENTPULSE_LIVE_PORT")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_reported_with_its_variable(host: str) -> None:
    with pytest.raises(PortError, match=rf"^cannot listen on {host} \(.+\): set EVENTPULSE_HOST"):
        ensure_free(host, 8000, "EVENTPULSE_PORT")


def test_a_server_that_listens_on_every_address_is_reached_at_the_loopback_address() -> None:
    assert [reachable_host(host) for host in ("0.0.0.0", "::", "::1", "db.example")] == [
        "127.0.0.1",
        "[::1]",
        "[::1]",
        "db.example",
    ]
    assert in_brackets("0.0.0.0") == "0.0.0.0"

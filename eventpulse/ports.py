"""Addresses of servers: the check that an address is free, and the form of hosts in URLs."""

import errno
import socket

from eventpulse.errors import UserError


class PortError(UserError):
    """Error for an address that this process cannot listen on. The message names the variable to change."""


def ensure_free(host: str, port: int, variable: str) -> None:
    """Check that this process can listen on `host` and `port`. Raises `PortError`.

    The error names `variable` if another port may help, otherwise EVENTPULSE_HOST.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortError(_explanation(error, host, port, variable)) from error


def reachable_host(host: str) -> str:
    """Return the host for URLs with which clients on this machine reach a server that listens on `host`."""
    return in_brackets({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))  # noqa: S104 - compared, not bound


def in_brackets(host: str) -> str:
    """Return the host in the form for `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _explanation(error: OSError, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop the process that listens there, or set {variable} to a free port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not permitted for this user: set {variable} to 1024 or more"
    return f"cannot listen on {host} ({error.strerror}): set EVENTPULSE_HOST to an address of this machine"

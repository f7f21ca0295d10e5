"""Whether we may listen at an address, said before anything is started there."""

import errno
import socket

from eventpulse.errors import UserError


class PortError(UserError):
    """An address that we cannot listen at; the message says why and which variable to change."""


def ensure_free(host: str, port: int, variable: str) -> None:
    """See that nobody listens at host and port, and that we may. Raises `PortError`, which names `variable`."""
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
    """How a client on this machine names the address that a server listens on, ready for a URL."""
    return in_brackets({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))  # noqa: S104 - read, not bound


def in_brackets(host: str) -> str:
    """The host as it stands before a `:port`: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _explanation(error: OSError, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what listens there, or set {variable} to a free port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be opened by this user: set {variable} to 1024 or more"
    return f"cannot listen on {host} ({error.strerror}): set EVENTPULSE_HOST to an address of this machine"

"""Check of the origin of a request: the pages of other sites must not send requests through a user's browser."""

from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]  # scheme, host name and port


def is_allowed(origin: str | None, host: str, public_url: str | None, other_port: int | None = None) -> bool:
    """Return whether the header `Origin` is absent, or is the origin of the header `Host` or of `public_url`.

    The scheme is not compared with the scheme of `Host`, which is not known behind a proxy. `other_port` is a further
    allowed port of the same host. Only browsers send `Origin`.
    """
    if origin is None:
        return True
    sender = _parse(origin)
    if sender is None:
        return False
    own = _parse(f"{sender[0]}://{host}")
    return sender in (own, own and (own[0], own[1], other_port), _parse(public_url or ""))


def _parse(url: str) -> Origin | None:
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None

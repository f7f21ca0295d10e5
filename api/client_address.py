"""Address by which the connections of a client are counted."""

import ipaddress


def address_group(address: str) -> str:
    """Return the address by which clients are counted; for IPv6 the network of 64 bits, which one client may use."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # the connection is already closed
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))

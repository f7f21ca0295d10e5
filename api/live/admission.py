"""Admission of clients to a live gateway: their origin, their number, and their number per address."""

from collections import Counter
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from api import origin
from api.client_address import address_group


class Admission:
    """Places of a gateway, which clients occupy from their request until their connection is lost.

    max_clients, max_clients_per_address: maximum number of clients, in total and from one address.
    api_port: port of the API on the same host, whose pages may connect too.
    public_url: public URL of EventPulse, whose pages may connect too, or None.
    """

    def __init__(self, max_clients: int, max_clients_per_address: int, api_port: int, public_url: str | None) -> None:
        self._max_clients = max_clients
        self._max_clients_per_address = max_clients_per_address
        self._api_port = api_port
        self._public_url = public_url
        self._places: Counter[str] = Counter()

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Occupy a place and return None, or return the response to a client that is rejected.

        Browsers allow a page of any origin to open a WebSocket, so the gateway must reject other origins.
        """
        host = ", ".join(request.headers.get_all("Host"))
        origins = request.headers.get_all("Origin")
        if not all(origin.is_allowed(sender, host, self._public_url, self._api_port) for sender in origins):
            return connection.respond(HTTPStatus.FORBIDDEN, "Cross-origin requests are not allowed.\n")
        address = address_group(str((connection.remote_address or [""])[0]))
        if self._places[address] >= self._max_clients_per_address:
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many clients from this address.\n")
        if self._places.total() >= self._max_clients:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients.\n")
        self._places[address] += 1
        connection.connection_lost_waiter.add_done_callback(lambda _: self._release(address))
        return None

    def _release(self, address: str) -> None:
        self._places[address] -= 1
        if not self._places[address]:
            del self._places[address]

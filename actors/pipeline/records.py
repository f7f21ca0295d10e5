"""Events as records of the transport: the event is the argument, and the request id is an option."""

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from actors.transport.entry_id import EntryId
from actors.transport.messages import Bundle, argument_of, make_records


class _Identified(msgspec.Struct):
    event_id: str | None = None


class _Options(msgspec.Struct):
    request_id: str | None = None


_decode_identified = msgspec.json.Decoder(_Identified).decode
_decode_options = msgspec.json.Decoder(_Options).decode


def event_records(events: Iterable[bytes], request_id: str | None) -> list[bytes]:
    """Return one record for each of `events`, which must be compact JSON without line breaks."""
    return make_records(events, {"request_id": request_id} if request_id else {})


def event_of(record: bytes) -> bytes:
    """Return the event of a record as JSON."""
    return argument_of(record)


def request_id_of(record: bytes) -> str | None:
    """Return the id of the HTTP request that sent the event of a record, or None. Raises `msgspec.DecodeError`."""
    return _decode_options(record.partition(b" ")[0]).request_id


def event_ids(bundles: Iterable[Bundle], records: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the event ids of each bundle, by bundle id. `records` are the records of all bundles, in order.

    Raises `msgspec.DecodeError`.
    """
    ids = (_decode_identified(record.partition(b" ")[2]).event_id for record in records)
    return {bundle.id: [each for each in islice(ids, EntryId.parse(bundle.id).size) if each] for bundle in bundles}

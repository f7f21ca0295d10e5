"""A page of a list, newest first: by offset, or from the cursor of the page before.

A cursor names the last row that was seen, so the page after it costs the same however deep it is,
and rows that arrive meanwhile move nothing (keyset pagination, https://use-the-index-luke.com/no-offset).
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import peewee

#: Most rows that `offset` may skip: PostgreSQL reads each of them. A cursor has no such limit.
MAX_OFFSET = 1_000_000

Order = tuple[peewee.Field, ...]
Filters = Mapping[str, Any]  # a field of peewee for each parameter


def page(
    query: Mapping[str, Any],
    order: Order,
    public: Callable[[Any], dict[str, Any]],
    filters: Filters | None = None,
) -> dict[str, Any]:
    """The page that a query asks for.

    `order` is the sort key, descending; its first field is the time that `from` and `to` are about. `public` says
    what of a row is shown. `filters` are the parameters that must equal a field. The `count` is that of the rows
    in the page: counting all that match would read millions.
    """
    limit, offset = query["limit"], query["offset"]
    # One more than asked for tells whether another page follows.
    found = list(matching(query, order, filters or {}).limit(limit + 1).offset(offset))
    shown = found[:limit]
    following = _encode(shown[-1], order) if len(found) > limit else None
    return {
        "data": [public(row) for row in shown],
        "pagination": {"limit": limit, "offset": offset, "count": len(shown), "next_cursor": following},
    }


def matching(query: Mapping[str, Any], order: Order, filters: Filters) -> peewee.ModelSelect:
    """All rows that a query asks for, on whatever page."""
    time = order[0]
    rows: peewee.ModelSelect = time.model.select().order_by(*(field.desc() for field in order))
    for name, field in filters.items():
        if name in query:
            rows = rows.where(field == query[name])
    if "from_" in query:
        rows = rows.where(time >= query["from_"])
    if "to" in query:
        rows = rows.where(time <= query["to"])
    if "cursor" in query:
        rows = rows.where(peewee.Tuple(*order) < query["cursor"])
    return rows


def decode(cursor: str, kind: Any) -> Any:
    """The sort key in a cursor, a tuple of type `kind`. Raises `ValueError` for what is no such cursor."""
    padding = "=" * (-len(cursor) % 4)
    return msgspec.json.decode(base64.b64decode(cursor + padding, b"-_", validate=True), type=kind)


def _encode(row: peewee.Model, order: Order) -> str:
    key = msgspec.json.encode([getattr(row, field.name) for field in order])
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()

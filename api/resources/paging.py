"""Pages of a list, newest first, selected by offset or by the cursor of the previous page.

A cursor contains the sort key of the last row of a page. The cost of a page after a cursor does not depend on the
depth of the page, and new rows do not shift the page (keyset pagination, https://use-the-index-luke.com/no-offset).
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import peewee

#: Maximum `offset`, because PostgreSQL reads every skipped row. Cursors have no such limit.
MAX_OFFSET = 1_000_000

Order = tuple[peewee.Field, ...]
Filters = Mapping[str, Any]  # peewee field, by name of the query parameter


def page(
    query: Mapping[str, Any],
    order: Order,
    public: Callable[[Any], dict[str, Any]],
    filters: Filters | None = None,
) -> dict[str, Any]:
    """Return the page of rows that match a query.

    `order` is the sort key, descending; `from` and `to` apply to its first field, a time. `public` returns the public
    fields of a row. `filters` maps each query parameter to the field that is compared with its value. `count` is the
    number of rows in the page, because counting all matching rows could take too long.
    """
    limit, offset = query["limit"], query["offset"]
    # One row more than requested shows whether there is a next page.
    rows = list(matching(query, order, filters or {}).limit(limit + 1).offset(offset))
    shown = rows[:limit]
    next_cursor = _encode(shown[-1], order) if len(rows) > limit else None
    return {
        "data": [public(row) for row in shown],
        "pagination": {"limit": limit, "offset": offset, "count": len(shown), "next_cursor": next_cursor},
    }


def matching(query: Mapping[str, Any], order: Order, filters: Filters) -> peewee.ModelSelect:
    """Return the SQL query for the rows that match `query`; with a cursor, only the rows after the cursor."""
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


def decode(cursor: str, key_type: Any) -> Any:
    """Return the sort key in a cursor: a tuple of type `key_type`. Raises `ValueError` if the cursor is invalid."""
    padding = "=" * (-len(cursor) % 4)
    return msgspec.json.decode(base64.b64decode(cursor + padding, b"-_", validate=True), type=key_type)


def _encode(row: peewee.Model, order: Order) -> str:
    key = msgspec.json.encode([getattr(row, field.name) for field in order])
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()

"""Pages of a list, newest first, selected by offset or by the cursor of the previous page.

A cursor contains the sort key of the last row of a page. The cost of a page after a cursor does not depend on the
depth of the page, and new rows do not shift the page (keyset pagination, https://use-the-index-luke.com/no-offset).

A page also ends before its rows exceed a number of bytes: otherwise 500 large events would need 30 MiB, as long as a
slow client takes to read them.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import peewee
from playhouse.postgres_ext import BinaryJSONField

from api.decoding.time_slice import TimeSlice

#: Maximum `offset`, because PostgreSQL reads every skipped row. Cursors have no such limit.
MAX_OFFSET = 1_000_000

#: Maximum size of a page in bytes. A page with a single row may be larger.
MAX_PAGE_BYTES = 4 * 1024 * 1024
#: Part of the size of a page for everything but its rows.
PAGINATION_BYTES = 1024

#: Types of the columns whose size is not limited.
UNBOUNDED = (BinaryJSONField, peewee.TextField)

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
    number of rows in the page, because counting all matching rows could take too long. The page has fewer than `limit`
    rows and a cursor if more rows would exceed `MAX_PAGE_BYTES`.
    """
    limit, offset = query["limit"], query["offset"]
    # One row more than requested shows whether there is a next page.
    selected = matching(query, order, filters or {}).limit(limit + 1).offset(offset)
    data: list[msgspec.Raw] = []
    last, found, bytes_left = None, 0, MAX_PAGE_BYTES - PAGINATION_BYTES
    time_slice = TimeSlice()
    for row in first_bytes(selected, order, bytes_left):
        time_slice.check()
        found = row.page_rows
        encoded = msgspec.json.encode(public(row))
        bytes_left -= len(encoded) + 1
        if len(data) == limit or (data and bytes_left < 0):
            break
        data.append(msgspec.Raw(encoded))
        last = row
    next_cursor = _encode(last, order) if last is not None and found > len(data) else None
    return {
        "data": data,
        "pagination": {"limit": limit, "offset": offset, "count": len(data), "next_cursor": next_cursor},
    }


def first_bytes(selected: peewee.ModelSelect, order: Order, max_bytes: int) -> Iterator[Any]:
    """Yield the first row of a query, and further rows as long as their columns have at most `max_bytes` in total.

    Each row has the additional attribute `page_rows`, the number of rows of the query. PostgreSQL measures the columns,
    so that this process does not receive more than the page.
    """
    model = order[0].model
    sql, params = selected.sql()
    newest_first = ", ".join(f'"{field.column_name}" DESC' for field in order)
    unbounded = [field.column_name for field in model._meta.sorted_fields if isinstance(field, UNBOUNDED)]
    row_bytes = " + ".join([f'coalesce(octet_length("{name}"::text), 0)' for name in unbounded] or ["0"])
    statement = f"""
        SELECT * FROM (
            SELECT page.*, count(*) OVER () AS page_rows, row_number() OVER newest_first AS page_row,
                   sum({row_bytes}) OVER newest_first AS page_bytes
            FROM ({sql}) AS page
            WINDOW newest_first AS (ORDER BY {newest_first} ROWS UNBOUNDED PRECEDING)
        ) AS measured
        WHERE page_row = 1 OR page_bytes <= {max_bytes}
        ORDER BY page_row
    """  # noqa: S608 - names of columns, and SQL of peewee with parameters
    return iter(model.raw(statement, *params).iterator())


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

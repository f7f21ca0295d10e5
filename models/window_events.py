"""Stored events of windows, for the evidence of anomalies."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from models.database import database

#: Maximum number of event ids that are returned for a window.
SAMPLES = 3
#: Columns that a condition can select by; other paths lead into a JSON column.
COLUMNS = ("event_type", "source")

# The newest rows are read from an index in the order of time until the limit is reached, so that the time does not
# depend on the size of the window. PostgreSQL underestimates windows that are unknown when the query is planned;
# without the settings it would therefore read and sort the whole window.
IN_INDEX_ORDER = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off
"""
# The counted rows have no column except the timestamp, so PostgreSQL can read them from an index alone. The samples are
# then found by their timestamps: another search for the newest rows could read the whole window.
WINDOWS = """
    SELECT counted.count, counted.first, counted.last, ARRAY(
        SELECT event_id FROM events WHERE timestamp = ANY(counted.newest){conditions} ORDER BY timestamp DESC LIMIT %s
    )
    FROM jsonb_to_recordset(%s::jsonb) AS firing(position integer, after timestamptz, until timestamptz{columns})
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, min(timestamp) AS first, max(timestamp) AS last,
            (array_agg(timestamp))[1:%s] AS newest
        FROM ({rows}) AS events
    ) AS counted
    ORDER BY firing.position
"""
ROWS = """
    SELECT timestamp FROM events WHERE timestamp > firing.after AND timestamp <= firing.until{conditions}
    ORDER BY timestamp DESC LIMIT %s
"""
# An index is in the order of time only for one value of its first column.
ROWS_OF_VALUES = """
    SELECT timestamp FROM unnest(%s::text[]) AS listed(value) CROSS JOIN LATERAL ({rows}) AS events
    ORDER BY timestamp DESC LIMIT %s
"""


class Window(NamedTuple):
    """Selection of events: the events in `(after, until]` that have, at each path of `equal`, one of the values.

    The value None matches a missing field and null.
    """

    equal: Mapping[str, Sequence[Any]]
    after: datetime
    until: datetime


class WindowEvents(NamedTuple):
    """Stored events of a window: their number, the first and the last timestamp, and the ids of the newest events.

    If the window has at least the maximum number of rows that were counted, `total` is a lower bound, `is_lower_bound`
    is True, and `first` is None. `newest` has at most `SAMPLES` ids.
    """

    total: int
    is_lower_bound: bool
    first: datetime | None
    last: datetime | None
    newest: list[UUID]


def read_windows(windows: Sequence[Window], max_rows: int, timeout_ms: int) -> list[WindowEvents]:
    """Return the events of each window with one query, which counts at most `max_rows` rows of each window.

    The windows must have the same paths in `equal`. Must be called in a transaction. Raises
    `peewee.OperationalError` (see `models.database.is_too_slow`) if the query takes longer than `timeout_ms`.
    """
    sql, params = window_query(windows, max_rows)
    with database.atomic() as savepoint:
        database.execute_sql(f"SET LOCAL statement_timeout = {int(timeout_ms)}; {IN_INDEX_ORDER}")
        rows: Any = database.execute_sql(sql, params).fetchall()
        savepoint.rollback(begin=False)  # resets the settings
    return [
        WindowEvents(count, count == max_rows, first if count < max_rows else None, last, newest)
        for count, first, last, newest in rows
    ]


def window_query(windows: Sequence[Window], max_rows: int) -> tuple[str, list[Any]]:
    """Return the SQL and the parameters of the query for the events of each window.

    Values that all windows have in common are constants of the query, so that PostgreSQL can choose the index for them.
    The others are values of a group, of which each window has one at each path.
    """
    equal = windows[0].equal
    varying = [path for path in equal if any(window.equal[path] != equal[path] for window in windows)]
    constant = {path: values for path, values in equal.items() if path not in varying}
    group, group_params = _of_group(varying)
    sample, sample_params = _all(_any_of(path, values) for path, values in constant.items())
    counted, counted_params = _counted(constant, group, group_params, max_rows)
    columns = "".join(f", value{n} {'text' if path in COLUMNS else 'jsonb'}" for n, path in enumerate(varying))
    rows = [
        {"position": position, "after": window.after, "until": window.until}
        | {f"value{n}": window.equal[path][0] for n, path in enumerate(varying)}
        for position, window in enumerate(windows)
    ]
    sql = WINDOWS.format(conditions=sample + group, columns=columns, rows=counted)
    encoded = msgspec.json.encode(rows).decode()
    return sql, [*sample_params, *group_params, SAMPLES, encoded, SAMPLES, *counted_params]


def _counted(
    constant: Mapping[str, Sequence[Any]], group: str, group_params: Sequence[Any], max_rows: int
) -> tuple[str, list[Any]]:
    """Return the query, and its parameters, for the timestamps of the newest rows of one window."""
    listed = next((path for path in COLUMNS if len(constant.get(path, ())) > 1), None)
    own = (_any_of(path, values) for path, values in constant.items() if path != listed)
    if listed is None:
        conditions, params = _all(own)
        return ROWS.format(conditions=conditions + group), [*params, *group_params, max_rows]
    conditions, params = _all([(f"{listed} = listed.value", []), *own])
    rows = ROWS.format(conditions=conditions + group)
    values = list(dict.fromkeys(constant[listed]))
    return ROWS_OF_VALUES.format(rows=rows), [values, *params, *group_params, max_rows, max_rows]


def _of_group(paths: Sequence[str]) -> tuple[str, list[Any]]:
    """Return the SQL conditions, and their parameters, that the fields at `paths` have the values of the group."""
    conditions = []
    for number, path in enumerate(paths):
        sql, params = _value(path)
        # A null in the JSON of the windows becomes NULL.
        value = f"firing.value{number}" if path in COLUMNS else f"COALESCE(firing.value{number}, 'null')"
        conditions.append((f"{sql} = {value}", params))
    return _all(conditions)


def _all(conditions: Iterable[tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
    """Return the text of these conditions for the end of a WHERE clause, and all parameters."""
    listed = list(conditions)
    return "".join(f" AND {sql}" for sql, _ in listed), [each for _, params in listed for each in params]


def _any_of(path: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the SQL condition, and its parameters, that the field at `path` has one of `values`."""
    sql, params = _value(path)
    if path in COLUMNS:
        return (f"{sql} = %s", list(values)) if len(values) == 1 else (f"{sql} = ANY(%s::text[])", [list(values)])
    return f"{sql} = ANY(%s::jsonb[])", [*params, [msgspec.json.encode(value).decode() for value in values]]


def _value(path: str) -> tuple[str, list[Any]]:
    """Return SQL for the value at `path`, and its parameters; for a path into a JSON column, null if it is missing."""
    column, *keys = path.split(".")
    if not keys:
        return column, []
    # The operator `-> text` reads only objects, not arrays. jsonb compares by value: 1 equals 1.0, but not "1" or true.
    return f"COALESCE({column}{' -> %s::text' * len(keys)}, 'null')", keys

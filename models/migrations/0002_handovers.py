"""Bundles of stored events whose evaluation is not confirmed; migration 0003 renames them to pending evaluations."""

UP = """
CREATE TABLE handovers (
    bundle_id text PRIMARY KEY,
    event_ids uuid[] NOT NULL,
    handed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- No compression: the last bytes of UUIDs are random, and a row exists for milliseconds.
ALTER TABLE handovers ALTER COLUMN event_ids SET STORAGE EXTERNAL;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql("DROP TABLE handovers")

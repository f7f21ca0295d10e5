"""The table of pending evaluations, under the name `handovers`, which migration 0003 changes."""

UP = """
CREATE TABLE handovers (
    bundle_id text PRIMARY KEY,
    event_ids uuid[] NOT NULL,
    handed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Without compression, because most bytes of the UUIDs are random and a row usually exists for milliseconds.
ALTER TABLE handovers ALTER COLUMN event_ids SET STORAGE EXTERNAL;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql("DROP TABLE handovers")

"""What was handed to evaluation and not confirmed yet: so that nothing which is lost on the way goes unnoticed."""

UP = """
CREATE TABLE handovers (
    bundle_id text PRIMARY KEY,
    event_ids uuid[] NOT NULL,
    handed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Random bytes do not get smaller, and a row lives for milliseconds.
ALTER TABLE handovers ALTER COLUMN event_ids SET STORAGE EXTERNAL;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql("DROP TABLE handovers")

"""Count of events whose id is stored with other content, and the reference of a sent message at its service."""

UP = """
-- The default is for rows of earlier minutes and for schedulers of an earlier version during a rolling upgrade.
ALTER TABLE throughput ADD COLUMN conflicting bigint NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN reference text;
"""

DOWN = """
ALTER TABLE deliveries DROP COLUMN reference;
ALTER TABLE throughput DROP COLUMN conflicting;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

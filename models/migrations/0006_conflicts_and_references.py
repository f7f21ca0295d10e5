"""Number of conflicting duplicates in each minute, and the id of a sent message at the channel's provider."""

UP = """
-- The default serves existing rows, and schedulers of an earlier version during a rolling upgrade.
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

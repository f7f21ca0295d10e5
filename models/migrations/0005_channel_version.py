"""A version for each channel, so that concurrent changes are detected."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE channels ADD COLUMN version integer NOT NULL DEFAULT 1")


def down(migrator, db):
    db.execute_sql("ALTER TABLE channels DROP COLUMN version")

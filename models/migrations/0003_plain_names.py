"""New names of tables, indexes, columns and a status, according to the glossary."""

UP = """
ALTER TABLE handovers RENAME TO pending_evaluations;
ALTER INDEX handovers_pkey RENAME TO pending_evaluations_pkey;
ALTER TABLE pending_evaluations RENAME COLUMN handed_at TO queued_at;
ALTER TABLE anomalies RENAME COLUMN dedupe TO dedupe_key;
ALTER INDEX anomalies_dedupe_key RENAME TO anomalies_dedupe_key_key;
ALTER TABLE anomalies RENAME COLUMN quiet_around TO cooldown_anchor;
ALTER TABLE dead_letters RENAME COLUMN died_at TO dead_lettered_at;
ALTER INDEX dead_letters_died_at RENAME TO dead_letters_dead_lettered_at;
ALTER INDEX deliveries_undone RENAME TO deliveries_unsettled;
UPDATE deliveries SET status = 'rejected' WHERE status = 'refused';
"""

DOWN = """
UPDATE deliveries SET status = 'refused' WHERE status = 'rejected';
ALTER INDEX deliveries_unsettled RENAME TO deliveries_undone;
ALTER INDEX dead_letters_dead_lettered_at RENAME TO dead_letters_died_at;
ALTER TABLE dead_letters RENAME COLUMN dead_lettered_at TO died_at;
ALTER TABLE anomalies RENAME COLUMN cooldown_anchor TO quiet_around;
ALTER INDEX anomalies_dedupe_key_key RENAME TO anomalies_dedupe_key;
ALTER TABLE anomalies RENAME COLUMN dedupe_key TO dedupe;
ALTER TABLE pending_evaluations RENAME COLUMN queued_at TO handed_at;
ALTER INDEX pending_evaluations_pkey RENAME TO handovers_pkey;
ALTER TABLE pending_evaluations RENAME TO handovers;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

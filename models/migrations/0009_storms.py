"""Storms: the kind of an anomaly, suppressed firings, and their number in each rule and batch."""

UP = """
-- The default serves existing rows, and workers of an earlier version during a rolling upgrade.
ALTER TABLE anomalies ADD COLUMN kind text NOT NULL DEFAULT 'firing';

-- Event ids are mostly in the order of time, so new entries are added at the end of the primary key.
CREATE TABLE suppressed_firings (
    event_id      uuid NOT NULL,
    rule_id       uuid NOT NULL,
    suppressed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, rule_id)
);
-- Serves retention. The rows are in the order of suppressed_at, so a BRIN index of a few pages is sufficient.
CREATE INDEX suppressed_firings_suppressed_at ON suppressed_firings USING brin (suppressed_at);

-- Has no index on suppressed_at: the rows of each minute are deleted when the minute has ended.
CREATE TABLE storm_counts (
    storm_count_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id          uuid NOT NULL,
    rule_name        text NOT NULL,
    rule_version     integer NOT NULL,
    severity         text NOT NULL,
    event_id         uuid NOT NULL,
    occurred_at      timestamptz NOT NULL,
    above_series_cap bigint NOT NULL,
    above_rule_cap   bigint NOT NULL,
    groups           jsonb NOT NULL,
    suppressed_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

DOWN = """
DROP TABLE storm_counts, suppressed_firings;
DELETE FROM anomalies WHERE kind = 'storm';
ALTER TABLE anomalies DROP COLUMN kind;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

"""A queue of deliveries for each channel, the state of each channel, and notices about failing channels."""

UP = """
-- The default of queued_at is stable, so that the existing rows are not rewritten.
ALTER TABLE deliveries
    ADD COLUMN severity_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN queued_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN digest_id     uuid;
ALTER TABLE deliveries ALTER COLUMN queued_at SET DEFAULT clock_timestamp();

CREATE FUNCTION severity_rank(severity text) RETURNS smallint IMMUTABLE LANGUAGE sql AS
    $$ SELECT (CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END)::smallint $$;
UPDATE deliveries SET severity_rank = severity_rank(severity), queued_at = created_at
FROM anomalies WHERE anomalies.anomaly_id = deliveries.anomaly_id AND status IN ('pending', 'sending', 'dead');

-- A trigger, because workers of an earlier version insert deliveries without a rank during a rolling upgrade.
CREATE FUNCTION set_severity_rank() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.severity_rank := severity_rank((SELECT severity FROM anomalies WHERE anomaly_id = NEW.anomaly_id));
    RETURN NEW;
END $$;
CREATE TRIGGER deliveries_severity_rank BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION set_severity_rank();

-- Serves the claim of the next delivery of a channel, and the number and the age of its waiting deliveries.
CREATE INDEX deliveries_queue ON deliveries (channel_id, severity_rank, queued_at)
    WHERE status IN ('pending', 'sending');

CREATE TABLE channel_states (
    channel_id       uuid PRIMARY KEY REFERENCES channels ON DELETE CASCADE,
    version          integer NOT NULL,
    failures         integer NOT NULL DEFAULT 0,
    interval_seconds double precision NOT NULL DEFAULT 0,
    paused_until     timestamptz,
    failing_since    timestamptz,
    accepting_since  timestamptz,
    announced_at     timestamptz,
    last_error       text
);

CREATE TABLE channel_notices (
    notice_id     uuid PRIMARY KEY,
    channel_id    uuid NOT NULL REFERENCES channels ON DELETE CASCADE,
    subject_id    uuid NOT NULL,
    subject_name  text NOT NULL,
    is_failing    boolean NOT NULL,
    reason        text NOT NULL,
    failing_since timestamptz NOT NULL,
    waiting       integer NOT NULL,
    due_at        timestamptz NOT NULL,
    created_at    timestamptz NOT NULL
);
-- Serves the claim of the next notice of a channel.
CREATE INDEX channel_notices_channel ON channel_notices (channel_id, created_at);
"""

DOWN = """
DROP TABLE channel_notices, channel_states;
DROP TRIGGER deliveries_severity_rank ON deliveries;
DROP FUNCTION set_severity_rank;
DROP INDEX deliveries_queue;
ALTER TABLE deliveries DROP COLUMN severity_rank, DROP COLUMN queued_at, DROP COLUMN digest_id;
DROP FUNCTION severity_rank;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

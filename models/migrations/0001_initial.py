"""The initial tables and indexes."""

UP = """
CREATE TABLE events (
    event_id    uuid PRIMARY KEY,
    event_type  text NOT NULL,
    source      text NOT NULL,
    timestamp   timestamptz NOT NULL,
    payload     jsonb NOT NULL,
    metadata    jsonb NOT NULL,
    received_at timestamptz NOT NULL
);
-- Serve the lists of GET /events, the counts of GET /metrics and the evidence of anomalies.
CREATE INDEX events_timestamp ON events (timestamp);
CREATE INDEX events_event_type ON events (event_type, timestamp);
CREATE INDEX events_source ON events (source, timestamp);
-- Serves retention. The rows are nearly in the order of received_at, so a BRIN index of a few pages is sufficient.
CREATE INDEX events_received_at ON events USING brin (received_at);

CREATE TABLE rules (
    rule_id                  uuid PRIMARY KEY,
    name                     text NOT NULL,
    enabled                  boolean NOT NULL,
    severity                 text NOT NULL,
    window_seconds           integer NOT NULL,
    cooldown_seconds         integer NOT NULL,
    allowed_lateness_seconds integer NOT NULL,
    condition                jsonb NOT NULL,
    version                  integer NOT NULL,
    error                    text,
    created_at               timestamptz NOT NULL,
    updated_at               timestamptz NOT NULL
);
CREATE TABLE rulebook (revision bigint NOT NULL);
INSERT INTO rulebook (revision) VALUES (1);

CREATE TABLE anomalies (
    anomaly_id   uuid PRIMARY KEY,
    dedupe       text NOT NULL UNIQUE,
    rule_id      uuid NOT NULL,
    rule_name    text NOT NULL,
    rule_version integer NOT NULL,
    severity     text NOT NULL,
    group_key    text NOT NULL,
    event_id     uuid NOT NULL,
    message      text NOT NULL,
    evidence     jsonb NOT NULL,
    request_id   text,
    series       text NOT NULL,
    quiet_around timestamptz NOT NULL,
    occurred_at  timestamptz NOT NULL,
    detected_at  timestamptz NOT NULL
);
-- Serves the search for anomalies within the cooldown before an anomaly is recorded.
CREATE INDEX anomalies_series ON anomalies (series, quiet_around);
-- Serves the list of GET /anomalies, the roll-up and retention.
CREATE INDEX anomalies_detected_at ON anomalies (detected_at);
-- Serve the filters of GET /anomalies.
CREATE INDEX anomalies_rule ON anomalies (rule_id, detected_at);
CREATE INDEX anomalies_severity ON anomalies (severity, detected_at);
CREATE INDEX anomalies_event ON anomalies (event_id);

CREATE TABLE channels (
    channel_id       uuid PRIMARY KEY,
    name             text NOT NULL UNIQUE,
    kind             text NOT NULL,
    settings         jsonb NOT NULL,
    minimum_severity text NOT NULL,
    enabled          boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);
INSERT INTO channels VALUES
    ('00000000-0000-7000-8000-000000000001', 'console', 'console', '{}', 'info', true, now(), now()),
    ('00000000-0000-7000-8000-000000000002', 'live', 'live', '{}', 'info', true, now(), now());

CREATE TABLE deliveries (
    anomaly_id   uuid NOT NULL REFERENCES anomalies ON DELETE CASCADE,
    channel_id   uuid NOT NULL,
    channel_name text NOT NULL,
    status       text NOT NULL,
    attempts     integer NOT NULL,
    due_at       timestamptz NOT NULL,
    receipt      text,
    last_error   text,
    delivered_at timestamptz,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (anomaly_id, channel_id)
);
-- Serves the search for overdue deliveries. The index is partial, because most deliveries are settled.
CREATE INDEX deliveries_undone ON deliveries (due_at) WHERE status IN ('pending', 'sending');
-- Serves the roll-up, which counts the deliveries of each minute.
CREATE INDEX deliveries_delivered_at ON deliveries (delivered_at);

CREATE TABLE throughput (
    minute             timestamptz PRIMARY KEY,
    accepted           bigint NOT NULL,
    persisted          bigint NOT NULL,
    evaluated          bigint NOT NULL,
    late               bigint NOT NULL,
    anomalies          bigint NOT NULL,
    delivered          bigint NOT NULL,
    dead               bigint NOT NULL,
    queue_depth        bigint NOT NULL,
    oldest_age_seconds double precision NOT NULL
);

CREATE TABLE dead_letters (
    dead_letter_id text PRIMARY KEY,
    queue_name     text NOT NULL,
    actor_name     text,
    event_id       uuid,
    request_id     text,
    attempts       integer NOT NULL,
    error          text NOT NULL,
    traceback      text,
    message        bytea NOT NULL,
    died_at        timestamptz NOT NULL
);
-- Serves the lists of dead letters and retention.
CREATE INDEX dead_letters_died_at ON dead_letters (died_at);
"""

DOWN = "DROP TABLE dead_letters, throughput, deliveries, channels, anomalies, rulebook, rules, events"


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

"""Keys and documentation of rules, the history of their versions, and the epoch of the rule set."""

UP = """
ALTER TABLE rules
    ADD COLUMN key         text UNIQUE,
    ADD COLUMN labels      jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN description text,
    ADD COLUMN runbook_url text;

CREATE TABLE rule_versions (
    rule_version_id uuid PRIMARY KEY,
    rule_id         uuid NOT NULL,
    version         integer NOT NULL,
    rule            jsonb NOT NULL,
    change          text NOT NULL,
    reason          text,
    changed_at      timestamptz NOT NULL
);
-- Serves the list of the versions of a rule, newest first. There is no foreign key, because the versions of a deleted
-- rule are kept.
CREATE INDEX rule_versions_rule ON rule_versions (rule_id, changed_at);
INSERT INTO rule_versions
SELECT gen_random_uuid(), rule_id, version,
    jsonb_build_object(
        'key', key, 'name', name, 'enabled', enabled, 'severity', severity, 'window_seconds', window_seconds,
        'cooldown_seconds', cooldown_seconds, 'allowed_lateness_seconds', allowed_lateness_seconds,
        'condition', condition, 'labels', labels, 'description', description, 'runbook_url', runbook_url
    ),
    CASE WHEN error IS NOT NULL THEN 'suspended' WHEN version = 1 THEN 'created' ELSE 'changed' END,
    error, updated_at
FROM rules;

-- The epoch changes after a restore of the database: the numbers of two revisions are comparable only within an epoch.
ALTER TABLE rulebook ADD COLUMN epoch uuid NOT NULL DEFAULT gen_random_uuid();
"""

DOWN = """
ALTER TABLE rulebook DROP COLUMN epoch;
DROP TABLE rule_versions;
ALTER TABLE rules DROP COLUMN key, DROP COLUMN labels, DROP COLUMN description, DROP COLUMN runbook_url;
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

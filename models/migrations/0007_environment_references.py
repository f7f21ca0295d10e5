"""References of channels to an environment variable: `env:SLACK_WEBHOOK_URL` instead of `environment`."""

UP = """
UPDATE channels SET settings = jsonb_set(settings, '{webhook_url}', '"env:SLACK_WEBHOOK_URL"')
WHERE kind = 'slack' AND settings->>'webhook_url' = 'environment'
"""

DOWN = """
UPDATE channels SET settings = jsonb_set(settings, '{webhook_url}', '"environment"')
WHERE kind = 'slack' AND settings->>'webhook_url' = 'env:SLACK_WEBHOOK_URL'
"""


def up(migrator, db):
    db.execute_sql(UP)


def down(migrator, db):
    db.execute_sql(DOWN)

"""Built-in Slack channel, which an environment variable configures."""

from eventpulse.settings import Settings
from models.channel import Channel
from models.database import connection

NAME = "slack (SLACK_WEBHOOK_URL)"


def ensure_builtin(settings: Settings) -> None:
    """Create the Slack channel of `SLACK_WEBHOOK_URL` if it does not exist; delete it if the variable is not set.

    The database stores the name of the variable, never the URL. Raises `peewee.PeeweeException`.
    """
    with connection():
        if settings.slack_webhook_url is None:
            Channel.delete().where(Channel.name == NAME).execute()
        else:
            row = {"name": NAME, "kind": "slack", "settings": {"webhook_url": "env:SLACK_WEBHOOK_URL"}}
            Channel.insert(**row).on_conflict_ignore().execute()

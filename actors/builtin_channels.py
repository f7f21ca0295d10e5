"""The channel that the environment asks for."""

from eventpulse.settings import Settings
from models.channel import Channel
from models.database import connection

NAME = "slack (SLACK_WEBHOOK_URL)"


def ensure_builtin(settings: Settings) -> None:
    """Make the Slack channel of `SLACK_WEBHOOK_URL`, or remove it when the variable is gone.

    The secret itself stays in the environment: the row only says where to look.
    """
    with connection():
        if settings.slack_webhook_url is None:
            Channel.delete().where(Channel.name == NAME).execute()
        else:
            row = {"name": NAME, "kind": "slack", "settings": {"webhook_url": "env:SLACK_WEBHOOK_URL"}}
            Channel.insert(**row).on_conflict_ignore().execute()

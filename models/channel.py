"""Channels, to which anomalies are announced."""

from typing import Any, Self

import peewee
from uuid_utils.compat import uuid7

from eventpulse.severity import SEVERITIES
from models.base import Row, jsonb, now, time
from models.database import database


class Channel(Row):
    """One channel.

    kind: name of a kind of channel in `notifiers.registry`.
    settings: validated by the settings schema of the kind; may contain secrets.
    minimum_severity: lowest severity of the anomalies that are announced.
    enabled: only enabled channels receive alerts.
    """

    channel_id = peewee.UUIDField(primary_key=True, default=uuid7)
    name = peewee.TextField(unique=True)
    kind = peewee.TextField()
    settings = jsonb(default=dict)
    minimum_severity = peewee.TextField(default="info")
    enabled = peewee.BooleanField(default=True)
    version = peewee.IntegerField(default=1)
    created_at = time(default=now)
    updated_at = time(default=now)

    class Meta:
        table_name = "channels"

    @classmethod
    def add(cls, **fields: Any) -> Self | None:
        """Store and return a new channel; return None if another channel has the same name.

        ON CONFLICT, not an error: PostgreSQL would log the statement of the error, which contains the secrets.
        """
        inserted = cls.insert(**fields).on_conflict(action="IGNORE", conflict_target=[cls.name]).returning(cls)
        return next(iter(inserted.execute()), None)

    def change(self, *, settings: dict[str, Any] | None = None, **fields: Any) -> bool:
        """Store new values as the next version; return False if another change or a deletion was stored first.

        Raises `peewee.IntegrityError` if another channel has the new name. PostgreSQL logs the statement of this error,
        so this statement does not contain the settings with their secrets.
        """
        new = {**fields, "version": self.version + 1, "updated_at": now()}
        with database.atomic():
            changed = bool(Channel.update(**new).where(*self._unchanged()).execute())
            if changed and settings is not None:
                Channel.update(settings=settings).where(Channel.channel_id == self.channel_id).execute()
        return changed

    def remove(self) -> bool:
        """Delete the channel; return False if a change or another deletion was stored first."""
        return bool(Channel.delete().where(*self._unchanged()).execute())

    def _unchanged(self) -> tuple[peewee.Expression, peewee.Expression]:
        return Channel.channel_id == self.channel_id, Channel.version == self.version

    @classmethod
    def subscribed_to(cls, severity: str) -> list[Self]:
        """Return the enabled channels that announce anomalies of `severity`, oldest channel first."""
        minimums = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return list(cls.select().where(cls.enabled, cls.minimum_severity.in_(minimums)).order_by(cls.channel_id))

"""What a module must export to add a kind of channel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import marshmallow
import redis

from notifiers.base import Notifier
from notifiers.http import HttpClient
from notifiers.secret_settings import Secret


@dataclass(frozen=True, slots=True)
class NotifierContext:
    """Shared resources from which notifiers are built.

    environment_secrets: values of the variables in `eventpulse.settings.CHANNEL_SECRETS`; None for an unset one.
    """

    redis_client: redis.Redis
    http: HttpClient
    environment_secrets: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """A kind of channel. Its module exports one as `KIND`, which `notifiers.registry` lists.

    name: value of the field `kind` of a channel.
    settings_schema: validates the settings of a channel of this kind.
    build: makes the notifier, whose `send` is called by many threads.
    """

    name: str
    settings_schema: type[marshmallow.Schema]
    build: Callable[[NotifierContext], Notifier]

    @property
    def secrets(self) -> frozenset[str]:
        """Return the names of the settings that are never shown."""
        fields = self.settings_schema().fields
        return frozenset(name for name, field in fields.items() if isinstance(field, Secret))


class NoSettings(marshmallow.Schema):
    """Settings schema of channel kinds that have no settings."""

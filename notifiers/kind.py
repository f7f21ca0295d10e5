"""Kinds of channels. The module of each kind exports its definition as `KIND`."""

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

    environment_secrets: value of each variable in `eventpulse.settings.CHANNEL_SECRETS`, None if it is not set.
    """

    redis_client: redis.Redis
    http: HttpClient
    environment_secrets: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """A kind of channel, listed in `notifiers.registry`.

    name: value of the field `kind` of a channel.
    settings_schema: validates the settings of a channel of this kind.
    build: returns a notifier whose `send` can be called by several threads at the same time.
    is_local: whether a send waits for no remote server. The notifier of any other kind is a `RemoteNotifier`.
    """

    name: str
    settings_schema: type[marshmallow.Schema]
    build: Callable[[NotifierContext], Notifier]
    is_local: bool = False

    @property
    def secrets(self) -> frozenset[str]:
        """Return the names of the settings that are secret."""
        fields = self.settings_schema().fields
        return frozenset(name for name, field in fields.items() if isinstance(field, Secret))


class NoSettings(marshmallow.Schema):
    """Settings schema of channel kinds that have no settings."""

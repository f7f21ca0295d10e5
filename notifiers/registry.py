"""All kinds of channels. A new kind needs a module with a `KIND`, and an import and a line in this file."""

from collections.abc import Mapping
from typing import Any

from eventpulse.masking import MASK
from notifiers import console, live
from notifiers.base import Notifier
from notifiers.kind import ChannelKind, NotifierContext
from notifiers.secret_settings import is_reference
from notifiers.slack import webhook as slack

KINDS: dict[str, ChannelKind] = {
    kind.name: kind
    for kind in (
        slack.KIND,
        console.KIND,
        live.KIND,
    )
}


def build(context: NotifierContext) -> dict[str, Notifier]:
    """Return a notifier of each kind, by the name of the kind."""
    return {name: kind.build(context) for name, kind in KINDS.items()}


def public_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a channel with the secrets masked, or with all values masked if the kind is unknown.

    References to environment variables are not masked.
    """
    secrets = KINDS[kind].secrets if kind in KINDS else settings.keys()
    return {name: MASK if name in secrets and not is_reference(value) else value for name, value in settings.items()}

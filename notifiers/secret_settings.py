"""Secret settings of channels, which can refer to an environment variable as `env:NAME`."""

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import ValidationError, fields

from eventpulse.settings import CHANNEL_SECRETS
from notifiers.base import Undeliverable

REFERENCE = "env:"


def is_reference(value: object) -> bool:
    """Return whether the value refers to an environment variable."""
    return isinstance(value, str) and value.startswith(REFERENCE)


def resolve(value: str, environment_secrets: Mapping[str, str | None]) -> str:
    """Return the value or, if it is a reference, the value of the environment variable.

    Raises `Undeliverable` if the variable is not set or not available to channels.
    """
    if not is_reference(value):
        return value
    name = value.removeprefix(REFERENCE)
    secret = environment_secrets.get(name)
    if secret is None:
        raise Undeliverable(f"environment variable {name} is not set")
    return secret


class Secret(fields.String):
    """Field for a secret, or for a reference to an environment variable that contains the secret.

    `check` validates a secret that is not a reference. A reference must name a variable in `CHANNEL_SECRETS`:
    otherwise a client could, for example, have the database password sent to a host of its choice.
    """

    def __init__(self, *, check: Callable[[str], Any], **options: Any) -> None:
        def validate(value: str) -> None:
            if not is_reference(value):
                check(value)
            elif value.removeprefix(REFERENCE) not in CHANNEL_SECRETS:
                offered = ", ".join(REFERENCE + name for name in CHANNEL_SECRETS)
                raise ValidationError(f"Must refer to one of: {offered}.")

        super().__init__(validate=validate, **options)

"""Secret settings of channels, which may refer to a variable of the environment as `env:NAME`."""

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import ValidationError, fields

from eventpulse.settings import CHANNEL_SECRETS
from notifiers.base import Undeliverable

REFERENCE = "env:"


def is_reference(value: object) -> bool:
    """Return whether the value refers to a variable of the environment."""
    return isinstance(value, str) and value.startswith(REFERENCE)


def resolve(value: str, environment_secrets: Mapping[str, str | None]) -> str:
    """Return the secret: the value itself, or that of the variable it refers to.

    Raises `Undeliverable` if the variable is not set, or is not offered to channels.
    """
    if not is_reference(value):
        return value
    name = value.removeprefix(REFERENCE)
    secret = environment_secrets.get(name)
    if secret is None:
        raise Undeliverable(f"{name} is not set")
    return secret


class Secret(fields.String):
    """Field for a secret, or for the name of an environment variable that contains it.

    `check` validates a secret that is given in full. A reference may only name a variable in `CHANNEL_SECRETS`:
    any other could send, for example, the password of the database to a host chosen by the caller.
    """

    def __init__(self, *, check: Callable[[str], Any], **options: Any) -> None:
        def validate(value: str) -> None:
            if not is_reference(value):
                check(value)
            elif value.removeprefix(REFERENCE) not in CHANNEL_SECRETS:
                offered = ", ".join(REFERENCE + name for name in CHANNEL_SECRETS)
                raise ValidationError(f"Must refer to one of: {offered}.")

        super().__init__(validate=validate, **options)

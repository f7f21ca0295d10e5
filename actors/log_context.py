"""Middleware that adds the ids of a message to the log lines about the message."""

from typing import Any

import msgspec
from dramatiq.broker import Broker
from dramatiq.message import Message
from dramatiq.middleware import Middleware
from structlog.contextvars import bind_contextvars, clear_contextvars


class _Event(msgspec.Struct):
    event_id: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class LogContext(Middleware):
    """Middleware that adds the message id, request id and event id to the log lines about a single message."""

    def before_process_message(self, broker: Broker, message: Any) -> None:
        clear_contextvars()
        if not message.is_batch:
            ids = {
                "message_id": message.message_id,
                "request_id": message.options.get("request_id"),
                "event_id": _event_id(message),
            }
            bind_contextvars(**{name: value for name, value in ids.items() if value})


def _event_id(message: Message[Any]) -> str | None:
    """Return the id of the event in the first argument of a message, or None if the message has no event."""
    try:
        return _decode_event(message.args[0]).event_id
    except (IndexError, TypeError, msgspec.DecodeError):
        return None

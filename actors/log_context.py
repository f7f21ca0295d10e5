"""Middleware that binds the ids of a message to every log line about it."""

from typing import Any

from dramatiq.broker import Broker
from dramatiq.middleware import Middleware
from structlog.contextvars import bind_contextvars, clear_contextvars

from actors.transport.messages import event_id_of


class LogContext(Middleware):
    """Every line that is logged about a message carries its ids."""

    def before_process_message(self, broker: Broker, message: Any) -> None:
        clear_contextvars()
        if not message.is_batch:
            ids = {
                "message_id": message.message_id,
                "request_id": message.options.get("request_id"),
                "event_id": event_id_of(message),
            }
            bind_contextvars(**{name: value for name, value in ids.items() if value})

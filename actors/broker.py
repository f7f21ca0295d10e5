"""Broker of the process, with its middleware.

No middleware limits the duration of an actor's call. Every request to a server has its own timeout (PostgreSQL's
statement timeout, Redis' socket timeout, the notifiers' timeout), and a step must be able to wait until an outage ends.
"""

import dramatiq
from dramatiq.middleware import CurrentMessage

from actors.log_context import LogContext
from actors.transport.messages import JSONEncoder
from actors.transport.middleware import BatchRetries, DiscardOutboxOnFailure, ShutdownSignal
from actors.transport.redis_broker import RedisBroker

broker = RedisBroker(
    middleware=[
        ShutdownSignal(),  # interrupt steps that wait for an unavailable server when the worker stops
        LogContext(),  # add the message id, request id and event id to the log lines about a message
        CurrentMessage(),  # provide the current batch, whose outbox takes the messages that an actor sends
        BatchRetries(max_retries=5, min_backoff=1_000, max_backoff=60_000),  # exponential backoff, then dead-letter
        DiscardOutboxOnFailure(),  # last: after-hooks run in reverse order, so this runs before BatchRetries
    ]
)
dramatiq.set_encoder(JSONEncoder())
dramatiq.set_broker(broker)

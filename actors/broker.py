"""Broker of the process, with its middleware in order of execution.

No middleware limits the duration of a call of an actor. Every request to a server has its own timeout (PostgreSQL's
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
        ShutdownSignal(),  # end waits for unavailable servers when the worker stops
        LogContext(),  # bind message, request and event ids to every log line
        CurrentMessage(),  # provide the current batch, whose outbox takes the messages that an actor sends
        BatchRetries(max_retries=5, min_backoff=1_000, max_backoff=60_000),  # exponential backoff, then dead-letter
        DiscardOutboxOnFailure(),  # last: after-hooks run in reverse order, so it runs before BatchRetries adds a retry
    ]
)
dramatiq.set_encoder(JSONEncoder())
dramatiq.set_broker(broker)

"""The broker: its middleware in order, each with its reason.

There is no time limit among them: everything that an actor waits for has one of its own (PostgreSQL's statement
timeout, Redis' socket timeout, the notifiers' timeout), and an outage is to be waited for, however long.
"""

import dramatiq
from dramatiq.middleware import CurrentMessage

from actors.log_context import LogContext
from actors.transport.messages import JSONEncoder
from actors.transport.middleware import BatchRetries, DiscardOutboxOnFailure, ShutdownSignal
from actors.transport.redis_broker import RedisBroker

broker = RedisBroker(
    middleware=[
        ShutdownSignal(),  # an orderly stop does not wait for servers that are away
        LogContext(),  # who is being worked for, on every line
        CurrentMessage(),  # what an actor sends joins the outbox of the message it serves
        BatchRetries(max_retries=5, min_backoff=1_000, max_backoff=60_000),  # bad luck is not fatal, and has an end
        DiscardOutboxOnFailure(),  # last, so that a failed attempt's messages are void before its retry is sent
    ]
)
dramatiq.set_encoder(JSONEncoder())
dramatiq.set_broker(broker)

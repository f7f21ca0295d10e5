"""The broker: its middleware in order, each with its reason."""

import dramatiq
from dramatiq.middleware import CurrentMessage, TimeLimit

from actors.guards import LogContext, PatientRetries, Stopping, Transactional
from actors.messages import JSONEncoder
from actors.transport import RedisBroker

#: Above PostgreSQL's statement timeout and the notifiers' timeouts, which cut off what Python cannot.
TIME_LIMIT_MS = 120_000

broker = RedisBroker(
    middleware=[
        Stopping(),  # an orderly stop does not wait for servers that are away
        LogContext(),  # who is being worked for, on every line
        TimeLimit(time_limit=TIME_LIMIT_MS),  # a step that hangs gives its thread back
        CurrentMessage(),  # what an actor sends joins the outbox of the message it serves
        PatientRetries(max_retries=5, min_backoff=1_000, max_backoff=60_000),  # bad luck is not fatal, and has an end
        Transactional(),  # last, so that a failed attempt's messages are void before its retry is sent
    ]
)
dramatiq.set_encoder(JSONEncoder())
dramatiq.set_broker(broker)

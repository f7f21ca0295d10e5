"""The HTTP API on one screen: every route, every middleware, every error."""

import falcon
import falcon.media
import msgspec

from actors import runtime
from api import problems
from api.middleware import DatabaseConnection, RequestLog
from api.openapi import document
from api.resources import anomalies, channels, events, health, limits, metrics, rules, throughput
from eventpulse.settings import ConnectedSettings

#: A request waits for two calls of Redis at most, the one before its own and its own; then comes an honest 503.
REDIS_TIMEOUT_SECONDS = 0.45


def create_app(settings: ConnectedSettings) -> problems.App:
    """The WSGI application; connects to Redis and PostgreSQL when first needed."""
    runtime.setup(settings, "api", redis_timeout_seconds=REDIS_TIMEOUT_SECONDS)
    app: problems.App = falcon.App(middleware=[RequestLog(), DatabaseConnection()])
    # UUIDs and times are JSON of their own to msgspec: rows need no converting.
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = falcon.media.JSONHandler(dumps=msgspec.json.encode)
    problems.install(app)

    stored = events.Events(settings)
    app.add_route("/api/v1/events", stored)
    app.add_route("/api/v1/events/batch", stored, suffix="batch")
    app.add_route("/api/v1/events/health", health.Health())
    app.add_route("/api/v1/events/{event_id}", stored, suffix="one")
    found = anomalies.Anomalies()
    app.add_route("/api/v1/anomalies", found)
    app.add_route("/api/v1/anomalies/{anomaly_id}", found, suffix="one")
    ruled = rules.Rules()
    app.add_route("/api/v1/rules", ruled)
    app.add_route("/api/v1/rules/{rule_id}", ruled, suffix="one")
    told = channels.Channels()
    app.add_route("/api/v1/channels", told)
    app.add_route("/api/v1/channels/{channel_id}", told, suffix="one")
    app.add_route("/api/v1/channels/{channel_id}/test", told, suffix="test")
    app.add_route("/api/v1/metrics", metrics.Metrics())
    app.add_route("/api/v1/throughput", throughput.Minutes())
    app.add_route("/api/v1/limits", limits.Limits(settings))
    app.add_route("/api/v1/openapi.json", document.Document(app))
    app.add_route("/livez", health.Live())
    app.add_route("/readyz", health.Ready())
    return app

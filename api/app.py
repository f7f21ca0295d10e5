"""The HTTP API on one screen: every route, every middleware, every error."""

import falcon
import falcon.media
import msgspec

import actors
from api import health, ingest, limits, problems
from api.middleware import DatabaseConnection, RequestLog
from eventpulse.settings import Settings


def create_app(settings: Settings) -> problems.App:
    """The WSGI application; connects to Redis and PostgreSQL when first needed."""
    actors.setup(settings)
    app: problems.App = falcon.App(middleware=[RequestLog(), DatabaseConnection()])
    # UUIDs and times are JSON of their own to msgspec: rows need no converting.
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = falcon.media.JSONHandler(dumps=msgspec.json.encode)
    problems.install(app)

    events = ingest.Ingest(settings)
    app.add_route("/api/v1/events", events)
    app.add_route("/api/v1/events/batch", events, suffix="batch")
    app.add_route("/api/v1/events/health", health.Health())
    app.add_route("/api/v1/limits", limits.Limits(settings))
    app.add_route("/livez", health.Live())
    app.add_route("/readyz", health.Ready())
    return app

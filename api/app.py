"""WSGI application of the HTTP API: its routes, its middleware and its error handlers."""

import falcon
import falcon.media
import msgspec

from actors import runtime
from api import problems
from api.middleware import DatabaseConnection, OriginCheck, RequestLog
from api.openapi.document import DocumentResource
from api.openapi.operation import Route, mount
from api.resources.anomalies import AnomaliesResource
from api.resources.channels import ChannelsResource
from api.resources.events import EventsResource
from api.resources.health import HealthResource, LivenessResource, ReadinessResource
from api.resources.limits import LimitsResource
from api.resources.metrics import MetricsResource
from api.resources.rules import RulesResource
from api.resources.throughput import ThroughputResource
from eventpulse.settings import ConnectedSettings, Settings

#: Timeout of one call to Redis. A request waits for at most two calls, a call of other requests that is in progress and
#: its own call: if Redis is unavailable, the client gets a 503 within a second.
REDIS_TIMEOUT_SECONDS = 0.45
#: Statement timeout of PostgreSQL for requests. Workers and migrations have a longer timeout.
STATEMENT_TIMEOUT_SECONDS = 5


def routes(settings: Settings) -> list[Route]:
    """Return all routes. The name of a subpath is the suffix of its responders, such as `one` in `on_get_one`."""
    document = DocumentResource()
    document.routes = [
        *mount("/api/v1/events", EventsResource(settings), batch="/batch", one="/{event_id}"),
        *mount("/api/v1/events/health", HealthResource()),
        *mount("/api/v1/anomalies", AnomaliesResource(), one="/{anomaly_id}"),
        *mount("/api/v1/rules", RulesResource(settings), one="/{rule_id}", versions="/{rule_id}/versions"),
        *mount("/api/v1/channels", ChannelsResource(), one="/{channel_id}", test="/{channel_id}/test"),
        *mount("/api/v1/metrics", MetricsResource()),
        *mount("/api/v1/throughput", ThroughputResource()),
        *mount("/api/v1/limits", LimitsResource(settings)),
        *mount("/api/v1/openapi.json", document),
        *mount("/livez", LivenessResource()),
        *mount("/readyz", ReadinessResource()),
    ]
    return document.routes


def create_app(settings: ConnectedSettings) -> problems.App:
    """Configure the actors of this process for `settings`, and return the WSGI application.

    The application connects to Redis and PostgreSQL on first use.
    """
    runtime.setup(
        settings,
        "api",
        redis_timeout_seconds=REDIS_TIMEOUT_SECONDS,
        statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
    )
    app: problems.App = falcon.App(middleware=[RequestLog(), OriginCheck(settings.public_url), DatabaseConnection()])
    # msgspec encodes UUIDs and times, so rows need no conversion.
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = falcon.media.JSONHandler(dumps=msgspec.json.encode)
    problems.install(app)
    for route in routes(settings):
        app.add_route(route.path, route.resource, suffix=route.suffix or None)
    return app

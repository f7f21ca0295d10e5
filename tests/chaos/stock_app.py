"""Typical application of stock Dramatiq: a Falcon app that sends messages, and three actors.

The commands `gunicorn chaos.stock_app:app` and `dramatiq chaos.stock_app` start the processes. Environment variables:
REDIS_URL; DATABASE_URL; WEBHOOK_URLS, the URLs for alerts, separated by spaces; and BROKER_IDS, a folder. Each
process writes its broker id to a file in this folder; the file name is the pid, so that tests can find the worker that
holds a lease.
"""

import os
from pathlib import Path
from typing import Any

import dramatiq
import falcon
import httpx
import psycopg2.extras
from dramatiq.brokers.redis import RedisBroker
from playhouse.pool import PooledPostgresqlDatabase

broker = RedisBroker(url=os.environ["REDIS_URL"])
dramatiq.set_broker(broker)
database = PooledPostgresqlDatabase(os.environ["DATABASE_URL"], max_connections=16, timeout=5, autoconnect=False)
(Path(os.environ["BROKER_IDS"]) / str(os.getpid())).write_text(broker.broker_id)

WEBHOOK_URLS = os.environ.get("WEBHOOK_URLS", "").split()
COLUMNS = ("event_id", "event_type", "source", "timestamp", "payload")
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"

Event = dict[str, Any]


@dramatiq.actor(queue_name="persist")
def persist(event: Event) -> None:
    values = [event[name] for name in COLUMNS[:-1]]
    with database.connection_context(), database.atomic():
        database.execute_sql(INSERT, [*values, psycopg2.extras.Json(event.get("payload", {}))])
    evaluate.send(event)


@dramatiq.actor(queue_name="evaluate")
def evaluate(event: Event) -> None:
    with database.connection_context(), database.atomic():
        database.execute_sql("INSERT INTO evaluations (event_id) VALUES (%s)", [event["event_id"]])
    if event.get("payload", {}).get("alarm"):
        for url in WEBHOOK_URLS:
            notify.send(event, url)


@dramatiq.actor(queue_name="notify")
def notify(event: Event, url: str) -> None:
    text = f"Anomaly `{event['event_id']}` of {event['source']}"
    httpx.post(url, json={"text": text}, timeout=5).raise_for_status()


class Batch:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        events = request.get_media()
        for event in events:
            persist.send(event)
        response.status = falcon.HTTP_202
        response.media = {"accepted": len(events)}


class Health:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"status": "ok"}


app = falcon.App()
app.add_route("/api/v1/events/batch", Batch())
app.add_route("/api/v1/health", Health())

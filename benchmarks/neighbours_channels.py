"""Benchmark of channels beside slow, silent and failing channels.

    .venv/bin/python benchmarks/neighbours_channels.py [--only slow|silent|down]

slow: 1,500 info alerts on a Slack that accepts one message per second, then one critical alert.
silent: 40 webhooks that never respond, beside the live feed and a healthy webhook.
down: a webhook that responds with 503 for an hour, with and without `Retry-After: 1`. An hour takes a minute: the
pauses of the workers are divided by 60.
"""

import argparse
import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import dramatiq
import httpx
from fake_slack import FakeSlack
from report import Line, Report
from servers import servers
from system import System, system
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from actors import runtime
from actors.broker import broker
from actors.channels.limits import ChannelLimits
from actors.pipeline import ingest
from actors.recovery import overdue_deliveries
from actors.rule_state import rulebook
from eventpulse import logs
from eventpulse.settings import ConnectedSettings
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery
from models.rule import Rule

RULES, ALERTS_PER_RULE = 3, 500
SILENT_WEBHOOKS, CRITICAL_ALERTS = 40, 40
LIVE_PORT = 18_771
WAITING = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending')"
#: Number of seconds of an outage that one second of the benchmark stands for.
COMPRESSION = 60
COMPRESSED = ChannelLimits(
    first_pause_seconds=2 / COMPRESSION,
    max_pause_seconds=60 / COMPRESSION,
    min_throttle_seconds=1 / COMPRESSION,
    max_retry_after_seconds=900 / COMPRESSION,
    digest_seconds=30 / COMPRESSION,
)


def rule(name: str, severity: str) -> dict[str, Any]:
    """Return a rule that fires for each event of the type `name`."""
    condition = {"type": "threshold", "operator": ">=", "value": 1, "group_by": ["payload.n"]}
    return {
        "name": name,
        "severity": severity,
        "window_seconds": 60,
        "cooldown_seconds": 0,
        "condition": condition | {"filters": {"event_type": name}},
    }


def event(name: str, number: int) -> dict[str, Any]:
    timestamp = datetime.now(UTC).isoformat()
    return {"event_type": name, "source": "benchmark", "timestamp": timestamp, "payload": {"n": f"n-{number}-"}}


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll the condition; return whether it became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


@contextlib.contextmanager
def live_feed(received: dict[str, float]) -> Iterator[None]:
    """Connect to the live gateway; store the time at which each message is received first, by its text."""
    with connect(f"ws://127.0.0.1:{LIVE_PORT}/ws", max_queue=None) as socket:

        def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                for frame in socket:
                    received.setdefault(json.loads(frame).get("message") or "", time.monotonic())

        reader = threading.Thread(target=read)
        reader.start()
        yield
    reader.join()


def number_of(running: System, query: str) -> int:
    with running.servers.connection.cursor() as cursor:
        cursor.execute(query)
        return int(next(cursor)[0])


def updates(running: System) -> int:
    """Return the number of rows that PostgreSQL has updated so far. The statistics are up to a second old."""
    return number_of(running, "SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname LIKE ANY "
                              "(ARRAY['deliveries', 'channel%'])")  # fmt: skip


def at(received: Mapping[str, float], text: str) -> float | None:
    return next((when for message, when in received.items() if text in message), None)


def slow(report: Report) -> None:
    """Measure a critical alert behind 1,500 info alerts on a slow channel."""
    received: dict[str, float] = {}
    with (
        FakeSlack(per_second=1).running() as slack,
        system(EVENTPULSE_LIVE_PORT=str(LIVE_PORT)) as running,
        httpx.Client(base_url=running.api, timeout=20) as client,
        live_feed(received),
    ):
        names = [f"info-{number}" for number in range(RULES)]
        _create(client, [*(rule(name, "info") for name in names), rule("critical", "critical")], {"slack": slack.url})
        updates_before = updates(running)
        for name in names:
            client.post("/events/batch", json=[event(name, n) for n in range(ALERTS_PER_RULE)]).raise_for_status()
        total = RULES * ALERTS_PER_RULE
        started = time.monotonic()
        wait_until(lambda: number_of(running, "SELECT count(*) FROM anomalies") >= total, 60)
        recorded = time.monotonic()
        wait_until(lambda: len(received) >= total, 10)
        print(f"  recorded after {recorded - started:.1f} s, {len(received)} of them in the live feed after "
              f"{time.monotonic() - started:.1f} s")  # fmt: skip
        posted = time.monotonic()
        client.post("/events", json=event("critical", 1)).raise_for_status()
        wait_until(lambda: any("critical" in text for _, text in slack.accepted), 60)
        used, began, waiting = running.cpu_seconds(), time.monotonic(), number_of(running, WAITING)
        time.sleep(5)
        cpu = sum(running.cpu_seconds().values()) - sum(used.values())
        cpu_percent = 100 * cpu / (time.monotonic() - began)
        in_slack = next((when for when, text in slack.accepted if "critical" in text), float("inf"))
        in_feed = at(received, "critical") or float("inf")
        done = "SELECT count(*) FROM deliveries WHERE status = 'delivered'"
        wait_until(lambda: number_of(running, done) >= 3 * (total + 1), 60)
        time.sleep(1.5)  # until the statistics of PostgreSQL contain the last updates
        delivered = number_of(running, done)
        per_delivery = (updates(running) - updates_before) / max(delivered, 1)
    for when, text in slack.accepted:
        if "further" in text:
            print(f"  {text} ({when - posted:+.1f} s)")
    report.add(
        Line("slow Slack: critical alert in Slack", "s", [in_slack - posted], at_most=3),
        Line("slow Slack: critical alert in the live feed", "ms", [1000 * (in_feed - posted)], at_most=100),
        Line("slow Slack: rows updated per delivery", "rows", [per_delivery], at_most=5),
        Line("slow Slack: CPU of the whole system while alerts wait", "%", [cpu_percent], note=f"{waiting} alerts"),
        Line(
            "slow Slack: messages accepted, rejected with 429",
            "messages",
            [len(slack.accepted)],
            note=f"{slack.rejected} rejected",
        ),
        Line("slow Slack: deliveries not settled", "deliveries", [3 * (total + 1) - delivered]),
    )


def silent(report: Report) -> None:
    """Measure the live feed and a healthy webhook beside 40 webhooks that never respond, and without them."""
    for webhooks in (0, SILENT_WEBHOOKS):
        _beside_silent(report, webhooks)


def _beside_silent(report: Report, number_of_webhooks: int) -> None:
    received: dict[str, float] = {}
    posted: dict[str, float] = {}
    with (
        FakeSlack(is_silent=True).running() as silent_slack,
        FakeSlack().running() as healthy,
        system(EVENTPULSE_LIVE_PORT=str(LIVE_PORT)) as running,
        httpx.Client(base_url=running.api, timeout=20) as client,
        live_feed(received),
    ):
        webhooks = {f"silent-{number}": silent_slack.url for number in range(number_of_webhooks)}
        _create(client, [rule("critical", "critical")], webhooks | {"healthy": healthy.url})
        for number in range(CRITICAL_ALERTS):
            posted[f"n-{number}-"] = time.monotonic()
            client.post("/events", json=event("critical", number)).raise_for_status()
            time.sleep(0.5)
        wait_until(lambda: len(healthy.accepted) >= CRITICAL_ALERTS and len(received) >= CRITICAL_ALERTS, 60)
    in_webhook = {text: when for when, text in healthy.accepted}
    for name, found, limit in (("live feed", received, 100), ("healthy webhook", in_webhook, 200)):
        seen = [(at(found, text), when) for text, when in posted.items()]
        delays = [1000 * (received_at - when) for received_at, when in seen if received_at]
        p95 = statistics.quantiles(delays, n=20)[-1] if len(delays) > 1 else float("inf")
        missing = len(posted) - len(delays)
        report.add(
            Line(
                f"{number_of_webhooks} silent webhooks: {name}, p95",
                "ms",
                [p95],
                at_most=limit,
                note=f"{missing} missing",
            )
        )


def _create(client: httpx.Client, rules: list[dict[str, Any]], webhooks: Mapping[str, str]) -> None:
    for each in rules:
        client.post("/rules", json=each).raise_for_status()
    for name, url in webhooks.items():
        channel = {"name": name, "kind": "slack", "settings": {"webhook_url": url}}
        client.post("/channels", json=channel).raise_for_status()
    time.sleep(1)  # until the workers have loaded the rules


def down(report: Report, minutes: float = 60) -> None:
    """Measure a webhook that is down for `minutes`, in compressed time."""
    for headers in ("Retry-After: 1\r\n", ""):
        with servers() as own, FakeSlack().running() as slack:
            settings = ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url)
            bound = runtime.setup(settings, "benchmark", limits=COMPRESSED)
            with connection():
                Channel.update(enabled=False).execute()
                Channel.create(name="ops", kind="slack", settings={"webhook_url": slack.url})
                for severity in ("info", "warning", "critical"):
                    Rule.add(**rule(severity, severity), allowed_lateness_seconds=3600)
            rulebook.publish()
            slack.unavailable_headers = headers
            worker = dramatiq.Worker(broker, worker_threads=6, worker_timeout=50)
            worker.start()
            started = time.monotonic()
            for number in range(30):
                severity = ("info", "warning", "critical")[number % 3]
                accepted = event(severity, number) | {"event_id": str(uuid4()), "metadata": {}, "received_at": _now()}
                ingest.accept([json.dumps(accepted).encode()], None)
                time.sleep(0.5 * minutes / 60)
            time.sleep(max(0.0, started + 60 * minutes / COMPRESSION - time.monotonic()))
            overdue_deliveries.expire(24)
            slack.unavailable_headers, returned = None, time.monotonic()
            wait_until(lambda: len(slack.accepted) >= 30, 30)
            worker.stop()
            bound.dispatcher.stop(15)
            _report_outage(report, slack, returned, headers)


def _report_outage(report: Report, slack: FakeSlack, returned: float, headers: str) -> None:
    name = "down for an hour, " + ("Retry-After: 1" if headers else "without Retry-After")
    with connection():
        attempts = max(delivery.attempts for delivery in Delivery.select())
        undelivered = Delivery.select().where(Delivery.status != "delivered").count()
    texts = [text for _, text in slack.accepted]
    wanted = sorted(
        texts, key=lambda text: (("CRIT", "WARN", "INFO").index(text[:4]), int(text.split("n-")[1].split("-")[0]))
    )
    moved = max(abs(texts.index(text) - place) for place, text in enumerate(wanted)) if texts else 0
    last = slack.accepted[-1].at - returned if slack.accepted else float("inf")
    report.add(
        Line(
            f"{name}: alerts not delivered",
            "alerts",
            [undelivered],
            at_most=0,
            note=f"{slack.rejected} responses with 503, {attempts} attempts at most",
        ),
        Line(f"{name}: largest distance from the order oldest critical first", "places", [moved], at_most=2),
        Line(f"{name}: last alert after the return (uncompressed)", "s", [last * COMPRESSION]),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["slow", "silent", "down"])
    chosen = parser.parse_args()
    logs.configure("error", "console")
    report = Report()
    for name, measure in {"slow": slow, "silent": silent, "down": down}.items():
        if chosen.only in (None, name):
            measure(report)


if __name__ == "__main__":
    main()

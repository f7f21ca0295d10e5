"""Benchmark of the state in Redis of a rule that counts all events of a day, and of its deletion.

    .venv/bin/python benchmarks/neighbours_state.py [--rate 10000] [--seconds 120] [--keys 1000000]

EventPulse receives `rate` events a second for `seconds`, and a zscore rule with buckets of a day counts them. Then the
rule is deleted while events continue to arrive, and its keys are counted one second later. The same deletion is
measured again with `keys` windows of another rule in Redis.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
from report import Line, Report
from system import System, system

from eventpulse import logs
from eventpulse.cli import load_generator
from rules.rule import parse_rule

BATCH = 100
TIMEOUT_SECONDS = 60
RULE: dict[str, Any] = {
    "name": "Unusual day",
    "severity": "info",
    "window_seconds": 60,
    "cooldown_seconds": 60,
    "condition": {"type": "zscore", "bucket_seconds": 86_400, "baseline_buckets": 3, "threshold": 3},
}


def keys(running: System, rule_id: str) -> list[bytes]:
    """Return the keys of the windows and cooldowns of a rule."""
    return list(running.redis.scan_iter(match=f"eventpulse:*:{rule_id}:*", count=5_000))


def memory_mib(running: System, rule_id: str) -> float:
    return sum(running.redis.memory_usage(key, samples=0) or 0 for key in keys(running, rule_id)) / 2**20


@contextmanager
def load(running: System, rate: float) -> Iterator[None]:
    """Send events at `rate` until the end of the block, in a thread."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.is_set():
            drive(running, rate, 1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def drive(running: System, rate: float, seconds: float) -> int:
    """Send events at `rate` for `seconds`; return the number of accepted events."""
    outcome = load_generator.drive(running.api, BATCH, seconds=seconds, rate=rate / BATCH, connections=32)
    return outcome.accepted * BATCH


def fill(running: System, count: int) -> None:
    """Store `count` windows of one of the other rules."""
    rule = parse_rule(msgspec.json.decode(running.redis.get("eventpulse:rules") or b"")["rules"][0])
    for start in range(0, count, 1_000):
        with running.redis.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + 1_000, count)):
                pipeline.set(f"{rule.window_key}{number:024}", "", ex=3_600)
            pipeline.execute()


def deletion(running: System, rule_id: str) -> tuple[int, float]:
    """Delete a rule; return the number of its keys one second later, and the seconds until no key is left."""
    httpx.delete(f"{running.api}/rules/{rule_id}", timeout=TIMEOUT_SECONDS).raise_for_status()
    started = time.monotonic()
    time.sleep(1)
    after_a_second = len(keys(running, rule_id))
    left = after_a_second
    while left and time.monotonic() - started < TIMEOUT_SECONDS:
        left = len(keys(running, rule_id))
    return after_a_second, time.monotonic() - started if after_a_second else 1.0


def create(running: System) -> str:
    response = httpx.post(f"{running.api}/rules", json=RULE, timeout=TIMEOUT_SECONDS).raise_for_status()
    return str(response.json()["rule_id"])


def measure(report: Report, rate: float = 10_000, seconds: float = 120, keys: int = 1_000_000) -> None:
    """Measure the memory of the rule and its deletion, without and with `keys` other windows."""
    with system() as running:
        rule_id = create(running)
        accepted = drive(running, rate, seconds)
        running.settle()
        memory = memory_mib(running, rule_id)
        note = f"{accepted:,} events in {seconds:g} s"
        report.add(Line("memory of a zscore rule with buckets of a day", "MiB", [memory], at_most=32, note=note))
        for others in (0, keys):
            fill(running, others)
            with load(running, rate / 10):
                rule_id = rule_id if not others else create(running)
                time.sleep(2)
                left, gone = deletion(running, rule_id)
            note = f"{others:,} other windows, {rate / 10:g} events/s"
            report.add(Line("keys of a rule 1 s after its deletion", "keys", [left], at_most=0, note=note))
            report.add(Line("time until the keys of a deleted rule are gone", "s", [gone], at_most=1, note=note))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--keys", type=int, default=1_000_000)
    logs.configure("error", "console")
    measure(Report(), **vars(parser.parse_args()))

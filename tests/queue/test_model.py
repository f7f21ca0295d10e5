"""Tests that compare the Lua scripts of the queues with a model, in any order of calls."""

import os
import signal
from pathlib import Path

import redis
from hypothesis.stateful import rule, run_state_machine_as_test
from support.fuzz_settings import examples
from support.queue_state_machine import Queues
from support.waiting import until

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon


class RestartedQueues(Queues):
    """State machine of queues whose Redis server also crashes and restarts."""

    def __init__(self, server: Daemon) -> None:
        self.server = server
        super().__init__(redis.Redis.from_url(server.url))

    @rule()
    def restart_redis(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        until(lambda: self.server.exit_status() is not None)
        self.server.start()


def test_no_message_is_lost_or_settled_twice_in_any_order_of_calls(redis_client: redis.Redis) -> None:
    run_state_machine_as_test(lambda: Queues(redis_client), settings=examples(100, stateful_step_count=50))


def test_no_message_is_lost_or_settled_twice_when_redis_restarts(tmp_path: Path) -> None:
    server = embedded.start_redis(tmp_path / "redis")
    try:
        run_state_machine_as_test(lambda: RestartedQueues(server), settings=examples(10, stateful_step_count=40))
    finally:
        server.stop()

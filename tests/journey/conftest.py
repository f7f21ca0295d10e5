"""Fixtures that run commands of `eventpulse` in this process."""

import sys
from pathlib import Path

import pytest
import redis
from support.cli import Ended, Run

from eventpulse.cli import main


@pytest.fixture
def eventpulse(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in this process, without REDIS_URL and DATABASE_URL in the environment."""
    monkeypatch.setenv("EVENTPULSE_DATA_DIR", str(tmp_path / "data"))
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, **settings: str) -> Ended:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["eventpulse", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main.main()
        written = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, written.out, written.err)

    return run


@pytest.fixture
def with_servers(
    eventpulse: Run, redis_client: redis.Redis, redis_url: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return a function that runs a command in this process, with an empty Redis and an empty database."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", empty_database)
    return eventpulse

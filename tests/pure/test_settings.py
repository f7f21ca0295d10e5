"""Tests of the settings: sources, errors for invalid variables, and masked secrets."""

import os
from pathlib import Path

import pytest

from eventpulse.settings import ConnectedSettings, Settings, SettingsError, describe


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Change to an empty folder, remove the settings from the environment, and return the folder."""
    for item in variables():
        monkeypatch.delenv(item, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def variables() -> list[str]:
    return [item.metadata["variable"] for item in Settings.__dataclass_fields__.values()]


def problems() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ()
    return caught.value.problems


def test_without_any_variable_every_setting_has_its_default() -> None:
    settings = Settings.from_environ()
    assert (settings.redis_url, settings.port, settings.event_retention_days) == (None, 8000, 30)
    assert {setting.source for setting in describe()} == {"default"}


def test_the_environment_has_precedence_over_the_env_file(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("EVENTPULSE_PORT=9000\nEVENTPULSE_LIVE_PORT=9001\n")
    monkeypatch.setenv("EVENTPULSE_PORT", "9100")
    settings = Settings.from_environ()
    assert (settings.port, settings.live_port) == (9100, 9001)
    sources = {setting.variable: setting.source for setting in describe()}
    assert (sources["EVENTPULSE_PORT"], sources["EVENTPULSE_LIVE_PORT"]) == ("environment", ".env")


def test_an_empty_variable_counts_as_unset(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("LOG_LEVEL=debug\nEVENTPULSE_PORT=\n")
    for name in ("REDIS_URL", "EVENTPULSE_PORT", "EVENTPULSE_DATA_DIR", "LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    settings = Settings.from_environ()
    assert (settings.redis_url, settings.port, settings.log_level) == (None, 8000, "debug")


def test_all_invalid_variables_are_reported_together_with_the_expected_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTPULSE_PORT", "many")
    monkeypatch.setenv("EVENTPULSE_WORKERS", "0")
    monkeypatch.setenv("EVENTPULSE_BATCH", "9999")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert problems() == [
        "EVENTPULSE_BATCH: Must be from 1 to 2000",
        "EVENTPULSE_PORT: Must be a whole number",
        "EVENTPULSE_WORKERS: Must be 1 or more",
        "LOG_LEVEL: Must be one of: debug, info, warning, error",
    ]


@pytest.mark.parametrize(
    "value",
    [
        "localhost:6379",
        "http://s3cret@host",
        "redis//s3cret",
        "http://[s3cret",
        "redis://u:s3cret@host:port",
        "redis://u:s3c%zzret@h",
    ],
)
def test_an_invalid_url_is_rejected_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", value)
    (problem,) = problems()
    assert problem.startswith("REDIS_URL: Must be a URL that begins with redis:// or rediss:// or unix://")
    assert "s3c" not in problem


def test_an_unknown_variable_is_reported_wherever_it_is_set(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("EVENTPULSE_PROT=9000\nPOSTGRES_PASSWORD=x\n")
    monkeypatch.setenv("EVENTPULSE_COLOUR", "blue")
    assert problems() == [
        "EVENTPULSE_COLOUR: Unknown setting",
        "EVENTPULSE_PROT: Unknown setting; did you mean EVENTPULSE_PORT?",
    ]


def test_the_two_ports_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTPULSE_LIVE_PORT", "8000")
    assert problems() == ["EVENTPULSE_LIVE_PORT: Must differ from EVENTPULSE_PORT"]


def test_an_unreadable_env_file_is_reported(empty_folder: Path) -> None:
    (empty_folder / ".env").mkdir()
    assert problems()[0].startswith(".env: cannot be read")


def test_an_env_file_of_another_user_is_not_read(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("REDIS_URL=redis://collector.example\n")
    if os.geteuid() == 0:
        os.chown(empty_folder / ".env", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert problems()[0].startswith(".env: cannot be read (it belongs to another user, uid ")


def test_an_ordinary_user_may_use_an_env_file_of_root(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("EVENTPULSE_PORT=9000\n")
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert Settings.from_environ().port == 9000


@pytest.mark.parametrize("mode", [0o646, 0o602, 0o666])
def test_an_env_file_to_which_other_users_may_write_is_not_read(empty_folder: Path, mode: int) -> None:
    (empty_folder / ".env").write_text("REDIS_URL=redis://collector.example\n")
    (empty_folder / ".env").chmod(mode)
    assert problems()[0].startswith(".env: cannot be read (other users may write to it: run `chmod go-w .env`)")


def test_an_env_file_may_be_writable_for_the_own_group_only(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("EVENTPULSE_PORT=9000\n")
    (empty_folder / ".env").chmod(0o664)
    assert Settings.from_environ().port == 9000
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    assert problems()[0].startswith(".env: cannot be read (other users may write to it")


def test_a_data_folder_may_be_relative_to_the_home_or_to_the_current_folder(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTPULSE_DATA_DIR", "~/pulse")
    assert Settings.from_environ().data_dir == Path.home() / "pulse"
    monkeypatch.setenv("EVENTPULSE_DATA_DIR", "pulse")
    assert Settings.from_environ().data_dir == empty_folder / "pulse"


def test_only_the_slack_webhook_is_offered_to_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environ().channel_secrets() == {"SLACK_WEBHOOK_URL": None}
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://chat.example.com/hooks/s3cret")
    assert Settings.from_environ().channel_secrets() == {"SLACK_WEBHOOK_URL": "https://chat.example.com/hooks/s3cret"}


def test_secrets_are_neither_in_the_repr_nor_in_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@cache:6379/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@db/pulse?password=s3cret")
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://chat.example.com/hooks/s3cret")
    shown = {setting.variable: setting.value for setting in describe()}
    assert "s3cret" not in f"{Settings.from_environ()!r} {shown}"
    assert shown["REDIS_URL"] == "redis://:***@cache:6379/0"
    assert shown["DATABASE_URL"] == "postgresql://me:***@db/pulse?password=***"
    assert shown["SLACK_WEBHOOK_URL"] == "***"


def test_the_example_file_lists_every_setting_and_parses_when_copied(empty_folder: Path) -> None:
    example = (Path(__file__).parents[2] / ".env.example").read_text()
    (empty_folder / ".env").write_text(example)
    Settings.from_environ()
    missing = [variable for variable in variables() if f"#{variable}=" not in example]
    assert missing == []


def test_connected_settings_have_both_urls_and_every_other_setting_unchanged() -> None:
    settings = Settings(port=9000, log_level="debug")
    connected = ConnectedSettings.of(settings, "redis://:s3cret@cache", "postgresql://me:s3cret@db")
    assert (connected.redis_url, connected.database_url) == ("redis://:s3cret@cache", "postgresql://me:s3cret@db")
    assert (connected.port, connected.log_level) == (9000, "debug")
    assert "s3cret" not in repr(connected)

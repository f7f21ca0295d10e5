"""Tests of commands with generated arguments and settings: exit codes, error messages, and masked secrets."""

import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import Ended
from support.fuzz_settings import examples

from eventpulse.cli import main

CODES = {0, 1, 2, 3, 4, 5, 6, 69, 130}
#: Commands that run until they are stopped. The test runs these commands only with invalid settings.
LONG_RUNNING = {"up", "api", "live", "scheduler"}
WRONG = {"EVENTPULSE_BATCH": "x"}
CLOSED = "{closed}"  # placeholder for a port of this machine on which no server listens

SECRET = "5ecr3t"
EXPLANATIONS = ("Error: ", "Finding: ", "Usage: ")

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.just("\udcff"), max_size=6)
#: Strategy for URLs at which no server listens, so that `eventpulse bench` sends no events to a real system.
urls = st.sampled_from([f"http://127.0.0.1:{CLOSED}", f"ftp://127.0.0.1:{CLOSED}", f"http://127.0.0.1:{CLOSED}/%zz"])
numbers = (st.integers(-2, 1_001) | st.floats()).map(str)


def walk(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield `(path, command)` for each command and group; the path of `eventpulse dlq list` is `("dlq", "list")`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))
        yield (*path, name), command


COMMANDS = dict(walk(main.commands))


def values(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """Generate valid and invalid values for an option or an argument."""
    match parameter.type:
        case click.Choice(choices=choices):
            return st.sampled_from(choices) | text
        case click.types.IntParamType() | click.types.FloatParamType():
            return numbers | text
    return urls if parameter.name == "url" else text


def words(parameter: click.Parameter) -> st.SearchStrategy[list[str]]:
    """Generate the words of one parameter on the command line: a flag, an option with a value, or an argument."""
    if not isinstance(parameter, click.Option):
        return values(parameter).map(lambda value: [value])
    names = st.sampled_from(parameter.opts)
    if parameter.is_flag:
        return names.map(lambda name: [name])
    return st.tuples(names, values(parameter)).map(list)


def call_of(path: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    parameters = [each for each in COMMANDS[path].params if not getattr(each, "hidden", False)]
    known = st.sampled_from(parameters).flatmap(words) if parameters else st.just([])
    odd = st.sampled_from([["--help"], ["-h"], ["--"], ["--no-such-option"], []]) | text.map(lambda word: [word])
    written = st.lists(st.one_of(known, known, known, odd), max_size=5)
    return written.map(lambda parts: [*path, *(word for part in parts for word in part)])


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """Generate `(arguments, settings)`. `CLOSED` stands for a port, and each secret begins with `SECRET`."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    before = draw(st.sampled_from([*[[]] * 20, ["--version"], ["-h"], ["nonsense"]]))
    password = SECRET + draw(text)
    if draw(st.booleans()):  # the other examples have an unquoted password, which is a common mistake
        password = quote(password, safe="", errors="surrogateescape")
    settings = {
        "REDIS_URL": f"redis://user:{password}@127.0.0.1:{CLOSED}/0",
        "DATABASE_URL": f"postgresql://user:{password}@127.0.0.1:{CLOSED}/none",
        "SLACK_WEBHOOK_URL": f"https://hooks.slack.com/services/{password}",
    }
    if path[0] in LONG_RUNNING or draw(st.booleans()):
        settings |= WRONG if path[0] == "up" or draw(st.booleans()) else {"REDIS_URL": ""}
    return [*before, *draw(call_of(path))], settings


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Callable[[list[str], dict[str, str]], Ended]]:
    """Return a function that runs `eventpulse` in this process, in an empty folder, without a terminal."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # the port is reserved, but connections fail: the socket does not listen
        port = str(closed.getsockname()[1])
        own = {"EVENTPULSE_DATA_DIR": str(tmp_path / "data"), "EVENTPULSE_PORT": port, "LOG_FORMAT": "console"}

        def run(arguments: list[str], settings: dict[str, str]) -> Ended:
            out = io.TextIOWrapper(io.BytesIO(), "utf-8")
            err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
            with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
                patch.chdir(tmp_path)
                for name, value in (own | settings).items():
                    patch.setenv(name, value.replace(CLOSED, port))
                patch.setattr(sys, "argv", ["eventpulse", *(each.replace(CLOSED, port) for each in arguments)])
                patch.setattr(sys, "stdin", nothing)
                patch.setattr(sys, "stdout", out)
                patch.setattr(sys, "stderr", err)
                with pytest.raises(SystemExit) as end:
                    main.main()
            assert isinstance(end.value.code, int)
            return Ended(end.value.code, *(each.detach().getvalue().decode() for each in (out, err)))

        yield run


@examples(400)
@given(calls())
def test_any_call_ends_with_a_documented_exit_code_and_shows_no_secret(
    call: Callable[[list[str], dict[str, str]], Ended], arguments_and_settings: tuple[list[str], dict[str, str]]
) -> None:
    ended = call(*arguments_and_settings)
    assert ended.code in CODES
    assert SECRET not in ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err
    if ended.code:
        assert any(line.startswith(EXPLANATIONS) for line in ended.err.splitlines())

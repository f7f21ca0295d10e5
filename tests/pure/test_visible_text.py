"""Tests of texts for terminals and logs: control characters and invisible characters become visible escapes."""

import io

import pytest

from eventpulse.local.process_output import ProcessOutput
from eventpulse.visible_text import visible

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"/{CLIPBOARD}", r"/\x1b]52;c;ZXZpbA==\x07"),
        ("a\nb\r\tc\x00\x7f\x9b", r"a\nb\r\tc\x00\x7f\x9b"),
        ("pay\u202ements\u2066", r"pay\u202ements\u2066"),
        ("pay\u200bments\u2060\ufeff\u00ad", r"pay\u200bments\u2060\ufeff\xad"),
        ("pay\u200dments \u200cx", r"pay\u200dments \u200cx"),
        ("pay\u3164ments\u115f\u034f", r"pay\u3164ments\u115f\u034f"),
        ("two\u2028lines\u2029", r"two\u2028lines\u2029"),
        ("half\ud83d", r"half\ud83d"),
        ("tag\U000e0041", r"tag\U000e0041"),
    ],
)
def test_characters_that_control_a_terminal_or_are_invisible_become_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["", "plain text", "Zahlung überfällig", "👩‍💻 ❤️", "می‌خواهم", "支払い　遅延", "a\\b"])
def test_words_of_all_languages_and_emoji_are_not_changed(text: str) -> None:
    assert visible(text) == text


def test_characters_to_keep_are_not_changed() -> None:
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize(("coloured", "shown"), [(True, "\x1b[31mred\x1b[0m"), (False, r"\x1b[31mred\x1b[0m")])
def test_a_line_of_a_process_has_colours_only_if_they_are_enabled_and_no_other_escape_sequence(
    coloured: bool, shown: str
) -> None:
    stream = io.StringIO()
    output = ProcessOutput(labelled=False, coloured=coloured)
    output.line("api", stream, f"\x1b[31mred\x1b[0m {CLIPBOARD}\x1b[2J")
    assert stream.getvalue() == rf"{shown} \x1b]52;c;ZXZpbA==\x07\x1b[2J" + "\n"


def test_a_json_line_of_a_process_is_not_changed() -> None:
    stream = io.StringIO()
    ProcessOutput(labelled=False, coloured=False).line("api", stream, '{"event": "\\u001b[2J", "path": "/ü"}')
    assert stream.getvalue() == '{"event": "\\u001b[2J", "path": "/ü"}\n'

"""Tests of the word list check of prose and identifiers."""

import pytest
from house_style import findings


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The worker dies.", "dies"),
        ("def test_a_delivery_is_put_off():", "put_off"),
        ("messages in hand", "in hand"),
        ('log.warning("redis_is_away")', "is_away"),
    ],
)
def test_a_word_of_the_list_is_found_with_its_line(text: str, word: str) -> None:
    ((path, line, found, _),) = findings("some/file.py", f"first line\n{text}")
    assert (path, line, found) == ("some/file.py", 2, word)


@pytest.mark.parametrize("text", ["server.serve_forever()", "a dead letter", "the untold", "diesel"])
def test_other_words_are_not_found(text: str) -> None:
    assert not list(findings("some/file.py", text))


def test_the_glossary_may_name_the_words_that_it_replaces() -> None:
    assert not list(findings("CONTRIBUTING.md", "| consumer without heartbeat | lost | dead worker |"))
    assert list(findings("CONTRIBUTING.md", "A dead worker."))

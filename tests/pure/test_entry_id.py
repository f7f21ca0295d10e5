"""Tests of the ids of queue entries."""

import pytest

from actors.transport.entry_id import EntryId, completed_bundles


@pytest.mark.parametrize(
    ("text", "parsed", "size"),
    [
        ("9f3c", EntryId("9f3c"), 1),
        ("100*9f3c", EntryId("9f3c", 100), 100),
        ("7.100*9f3c", EntryId("9f3c", 100, 7), 1),
        ("any text", EntryId("any text"), 1),
        ("1.x*9f3c", EntryId("1.x*9f3c"), 1),
    ],
)
def test_an_entry_id_contains_its_bundle_and_position(text: str, parsed: EntryId, size: int) -> None:
    assert EntryId.parse(text) == parsed
    assert str(parsed) == text
    assert parsed.size == size
    assert parsed.is_bundle == (text == "100*9f3c")


def test_a_bundle_of_one_message_is_complete() -> None:
    assert completed_bundles(["5*a", "1.1*b", "2.3*c", "d"]) == ["5*a", "1*b", "2.3*c", "d"]

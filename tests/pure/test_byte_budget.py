"""Tests of the budget for the bytes of request bodies."""

import pytest

from api import problems
from api.decoding.byte_budget import FREE_BYTES, ByteBudget, Reservation


def test_bodies_beyond_the_budget_are_rejected_until_another_body_is_done() -> None:
    budget = ByteBudget(1_000)
    with Reservation(budget) as first:
        first.grow(FREE_BYTES + 600)
        with Reservation(budget) as second:
            second.grow(FREE_BYTES + 400)
            with pytest.raises(problems.Problem) as rejected:
                second.grow(FREE_BYTES + 401)
            assert rejected.value.status == 503
            assert int(rejected.value.headers["Retry-After"]) >= 1  # type: ignore[index] # always a dict
    with Reservation(budget) as third:
        third.grow(FREE_BYTES + 1_000)
    assert budget.reserved == 0


def test_small_bodies_are_accepted_although_the_budget_is_used() -> None:
    budget = ByteBudget(1_000)
    with Reservation(budget) as large, Reservation(budget) as small:
        large.grow(FREE_BYTES + 1_000)
        small.grow(FREE_BYTES)


def test_the_bytes_of_a_growing_body_count_once() -> None:
    budget = ByteBudget(1_000)
    with Reservation(budget) as body:
        for size in (FREE_BYTES + 10, FREE_BYTES + 5, FREE_BYTES + 900):
            body.grow(size)
        assert budget.reserved == 900

"""Hypothesis settings of the fuzz tests."""

import os
from typing import Any

from hypothesis import HealthCheck, settings


def examples(number: int, **options: Any) -> settings:
    """Return settings for a test with `number` examples, which are the same in every run.

    With TEST_EXAMPLES=20, a test has 20 times as many examples, which differ in every run.
    """
    factor = int(os.environ.get("TEST_EXAMPLES", "0"))
    return settings(
        max_examples=number * max(factor, 1),
        derandomize=not factor,
        database=None,  # the report of a failure is enough to reproduce the failure
        deadline=None,  # other processes may slow down an example
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        **options,
    )

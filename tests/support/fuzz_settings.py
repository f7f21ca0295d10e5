"""Number of examples of the fuzz tests."""

import os
from typing import Any

from hypothesis import HealthCheck, settings


def examples(number: int, **options: Any) -> settings:
    """Return settings for a test that tries `number` examples, the same in every run.

    With TEST_EXAMPLES=20 it tries 20 times as many, and different ones in every run.
    """
    factor = int(os.environ.get("TEST_EXAMPLES", "0"))
    return settings(
        max_examples=number * max(factor, 1),
        derandomize=not factor,
        database=None,  # the report of a failure has all that is needed to repeat it
        deadline=None,  # other processes share the machine
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        **options,
    )

"""How much the fuzzing tests try."""

import os
from typing import Any

from hypothesis import HealthCheck, settings


def examples(ordinary: int, **options: Any) -> settings:
    """Settings of a test that tries `ordinary` examples, the same in every run.

    With TEST_EXAMPLES=20 it tries 20 times as many, and others in every run.
    """
    factor = int(os.environ.get("TEST_EXAMPLES", "0"))
    return settings(
        max_examples=ordinary * max(factor, 1),
        derandomize=not factor,
        database=None,  # a failure is printed with what is needed to repeat it
        deadline=None,  # other processes share the machine
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        **options,
    )

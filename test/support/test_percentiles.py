# SPDX-License-Identifier: Apache-2.0
"""Percentiles against numpy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.support.percentiles import Percentiles


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_percentiles_are_numpys(values: list[float]) -> None:
    np.testing.assert_allclose(Percentiles.of(values), np.percentile(values, (50, 95, 99)))


def test_the_first_percentiles_import_nothing() -> None:
    """The node's executor computes them while images arrive."""
    code = (
        "import sys; from compact_yolo_ros.support.percentiles import Percentiles\n"
        "before = set(sys.modules); Percentiles.of([1, 2, 3])\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

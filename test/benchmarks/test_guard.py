# SPDX-License-Identifier: Apache-2.0
"""What the guard of the benchmarks calls moved."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from guard import compare  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    "stored, now, verdict",
    [
        ([1.0, 1.0, 1.0], [1.09, 1.09, 1.09], ""),
        ([1.0, 1.0, 1.0], [1.2, 1.2, 5.0], "worse"),
        ([1.0, 1.0, 1.0], [0.8, 0.8, 0.1], "better"),
        ([0.9, 1.0, 1.3], [1.2, 1.2, 1.2], ""),  # the stored rounds went so far too
    ],
)
def test_a_ratio_has_moved_beyond_tolerance_and_noise(stored, now, verdict) -> None:
    assert compare(stored, now) == verdict

# SPDX-License-Identifier: Apache-2.0
"""The assignment against SciPy's, which solves a full table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.detection.tracking.assignment import heaviest_pairs

scipy_optimize = pytest.importorskip("scipy.optimize")


def best_sum(weights: np.ndarray) -> float:
    """The largest sum: a pair that is not worth having costs nothing in a full table."""
    worth = np.maximum(weights, 0)
    return float(worth[scipy_optimize.linear_sum_assignment(worth, maximize=True)].sum())


def check(weights: np.ndarray) -> None:
    before = weights.copy()
    pairs = heaviest_pairs(weights)
    np.testing.assert_array_equal(weights, before)
    rows, columns = pairs.T
    assert len(set(rows)) == len(set(columns)) == len(pairs)
    assert (weights[rows, columns] > 0).all()
    assert weights[rows, columns].sum() == pytest.approx(best_sum(weights), abs=1e-9)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    # Few values, so that there are ties and disputes.
    value = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.1])
    values = draw(st.lists(value, min_size=rows * columns, max_size=rows * columns))
    return np.array(values, float).reshape(rows, columns)


@given(tables())
def test_no_other_pairs_weigh_more(weights) -> None:
    check(weights)


@pytest.mark.parametrize("shape", [(40, 40), (25, 60), (60, 25), (1, 50), (50, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_large_tables_full_of_disputes(shape, seed) -> None:
    check(np.random.default_rng(seed).random(shape) - 0.2)


@pytest.mark.parametrize("weight", [0.51, 0.9])
def test_a_pair_gives_way_to_two(weight) -> None:
    """The heaviest pair alone is not in the heaviest solution."""
    weights = np.array([[1.0, weight], [weight, 0.0]])
    assert {tuple(pair) for pair in heaviest_pairs(weights)} == {(0, 1), (1, 0)}


def test_nothing_is_paired_with_nothing() -> None:
    assert heaviest_pairs(np.empty((0, 3))).shape == (0, 2)
    assert heaviest_pairs(np.empty((3, 0))).shape == (0, 2)
    assert heaviest_pairs(-np.ones((2, 2))).shape == (0, 2)

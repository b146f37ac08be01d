# SPDX-License-Identifier: Apache-2.0
"""The assignment of few pairs against SciPy's, which solves a full table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.evaluation.sparse_assignment import heaviest_of

scipy_optimize = pytest.importorskip("scipy.optimize")

Listed = list[tuple[int, int, float]]


def check(listed: Listed) -> None:
    rows, columns = (np.array([pair[side] for pair in listed], np.intp) for side in (0, 1))
    weights = np.array([weight for *_, weight in listed], float)
    chosen = heaviest_of(rows, columns, weights)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert (weights[chosen] > 0).all()
    table = np.zeros((rows.max(initial=0) + 1, columns.max(initial=0) + 1))
    table[rows, columns] = np.maximum(weights, 0)
    best = table[scipy_optimize.linear_sum_assignment(table, maximize=True)].sum()
    assert weights[chosen].sum() == pytest.approx(best, abs=1e-9)


@st.composite
def pairs(draw: st.DrawFn) -> Listed:
    place = st.tuples(st.integers(0, 7), st.integers(0, 7))
    # Few values, so that there are ties and disputes.
    value = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.5])
    return [(*each, draw(value)) for each in draw(st.lists(place, unique=True, max_size=40))]


@given(pairs())
def test_no_other_pairs_weigh_more(listed: Listed) -> None:
    check(listed)


@pytest.mark.parametrize("each", [1, 2, 5])
@pytest.mark.parametrize("shape", [(300, 300), (300, 80), (80, 300)])
def test_long_chains_of_disputes(shape: tuple[int, int], each: int) -> None:
    random = np.random.default_rng(each)
    columns = random.integers(0, shape[1], (shape[0], each))
    listed = {(row, int(c)) for row, some in enumerate(columns) for c in some}
    check([(*place, float(random.integers(1, 30))) for place in sorted(listed)])


def test_a_pair_gives_way_to_two() -> None:
    """The heaviest pair alone is not in the heaviest solution."""
    chosen = heaviest_of(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0]))
    assert chosen.tolist() == [1, 2]


def test_one_goes_without_where_there_is_too_little() -> None:
    chosen = heaviest_of(np.array([0, 1]), np.array([0, 0]), np.array([2.0, 3.0]))
    assert chosen.tolist() == [1]

# SPDX-License-Identifier: Apache-2.0
"""How well one figure orders networks as another one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, equal values with their mean rank; nan: one is constant.

    Args:
        first: a figure of each network.
        second: another one.
    """
    ranks = np.array([_ranks(first), _ranks(second)])
    ranks -= ranks.mean(1, keepdims=True)
    size = np.sqrt((ranks**2).sum(1).prod())
    return float((ranks[0] * ranks[1]).sum() / size) if size else float("nan")


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    found = np.asarray(values, float)
    below = (found[None] < found[:, None]).sum(1)
    equal = (found[None] == found[:, None]).sum(1)
    ranks: NDArray[np.float64] = below + (equal - 1) / 2.0
    return ranks

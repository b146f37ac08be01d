# SPDX-License-Identifier: Apache-2.0
"""Pairing rows and columns, each at most once, so that the sum of the weights is largest.

SciPy's ``linear_sum_assignment`` does the same for a full table. It is not used, because importing
it takes longer and more memory than everything else that tracking needs, and because Ubuntu's SciPy
does not work with the newer NumPy that ONNX Runtime brings along. The tests compare with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.intp]
"""(p, 2) row and column of each pair."""
_NONE: Pairs = np.empty((0, 2), np.intp)


def heaviest_pairs(weights: NDArray[np.float64]) -> Pairs:
    """The pairs with the largest sum of weights (n, m); a pair without a positive one is none.

    Pairs that are certain are taken first, and often these are all. What is left in dispute goes
    to the Hungarian method.
    """
    weights = np.maximum(weights, 0.0)
    rows, columns = np.arange(weights.shape[0]), np.arange(weights.shape[1])
    found = [_NONE]
    is_certain = True
    while is_certain and weights.any():
        pairs = _certain_pairs(weights)
        is_certain = len(pairs) > 0
        if not is_certain:
            pairs = _hungarian(weights)
        found.append(np.column_stack((rows[pairs[:, 0]], columns[pairs[:, 1]])))
        if len(pairs) == min(weights.shape):
            break
        weights[pairs[:, 0]] = 0.0
        weights[:, pairs[:, 1]] = 0.0
        rows_left, columns_left = weights.any(1), weights.any(0)
        weights = weights[rows_left][:, columns_left]
        rows, columns = rows[rows_left], columns[columns_left]
    return np.concatenate(found)


def _certain_pairs(weights: NDArray[np.float64]) -> Pairs:
    """Pairs that some best solution has: each outweighs the best alternatives of both together.

    If a best solution had two other pairs in their place, or one, exchanging them would lose
    nothing.
    """
    best = weights.argmax(1)
    mutual = np.flatnonzero(weights.argmax(0)[best] == np.arange(len(best)))
    partner = best[mutual]
    others = weights.copy()
    others[mutual, partner] = 0.0
    alternatives = others[mutual].max(1) + others[:, partner].max(0)
    weight = weights[mutual, partner]
    sure = (weight >= alternatives) & (weight > 0)
    return np.column_stack((mutual[sure], partner[sure]))


def _hungarian(weights: NDArray[np.float64]) -> Pairs:
    """Solve the whole table by shortest augmenting paths, a row at a time.

    The formulas are those of Crouse, "On implementing 2D rectangular assignment algorithms", IEEE
    Transactions on Aerospace and Electronic Systems 52 (2016), section III. A further column for
    each row, of weight 0, stands for no partner.
    """
    count, columns = weights.shape
    cost = np.concatenate([-weights, np.where(np.eye(count, dtype=bool), 0.0, np.inf)], 1)
    row_of = np.full(columns + count, -1)
    of_rows, of_columns = np.zeros(count), np.zeros(columns + count)
    for first in range(count):
        shortest = np.full(columns + count, np.inf)
        previous = np.full(columns + count, first)
        open_columns = np.ones(columns + count, bool)
        visited: list[tuple[int, int]] = []  # row and the column it had before
        row, length = first, 0.0
        while True:
            paths = length + cost[row] - of_rows[row] - of_columns
            shorter = open_columns & (paths < shortest)
            shortest[shorter], previous[shorter] = paths[shorter], row
            column = int(np.where(open_columns, shortest, np.inf).argmin())
            length = float(shortest[column])
            open_columns[column] = False
            if row_of[column] < 0:
                break
            row = int(row_of[column])
            visited.append((row, column))
        of_rows[first] += length
        for row, taken in visited:
            of_rows[row] += length - shortest[taken]
        closed = ~open_columns
        of_columns[closed] -= length - shortest[closed]
        while True:  # along the path, every row takes the column that it was reached by
            row = int(previous[column])
            row_of[column] = row
            if row == first:
                break
            column = next(taken for owner, taken in visited if owner == row)
    partners = np.flatnonzero(row_of[:columns] >= 0)
    pairs: Pairs = np.column_stack((row_of[partners], partners))
    return pairs[weights[pairs[:, 0], pairs[:, 1]] > 0]

# SPDX-License-Identifier: Apache-2.0
"""Pairing rows and columns as ``heaviest_pairs`` does, of a table that is nearly empty.

Thousands of objects and tracks make a table of gigabytes, but each of them meets only a few others.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

_NONE = -1


def heaviest_of(
    rows: NDArray[np.integer], columns: NDArray[np.integer], weights: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Choose of p pairs those with the largest sum, each row and column at most once.

    Args:
        rows: (p,) of the pairs, numbers from 0 on.
        columns: (p,) of the pairs, numbers from 0 on; no pair is there twice.
        weights: (p,) of the pairs; one without a positive weight is not chosen.

    Returns:
        (k,) places of the chosen pairs.
    """
    search = _Search(rows, columns, weights)
    for row in range(len(search.pairs)):
        search.add(row)
    return np.array([pair for pair in search.chosen if pair != _NONE], np.intp)


class _Search:
    """Shortest augmenting paths, a row at a time, as in the Hungarian method.

    Columns have prices. A pair is worth its weight less the price of its column, and no pair at all
    is worth 0. The length of a step is what a pair is short of the best that its row could have.

    Attributes:
        pairs: of each row.
        chosen: the pair of each row.
    """

    def __init__(
        self,
        rows: NDArray[np.integer],
        columns: NDArray[np.integer],
        weights: NDArray[np.float64],
    ) -> None:
        self._rows, self._columns, self._weights = rows.tolist(), columns.tolist(), weights.tolist()
        count = rows.max(initial=_NONE) + 1
        self.pairs: list[list[int]] = [[] for _ in range(count)]
        self.chosen = [_NONE] * count
        self._best = [0.0] * count
        self._prices = [0.0] * (columns.max(initial=_NONE) + 1)
        self._owners = [_NONE] * len(self._prices)
        for pair in np.flatnonzero(weights > 0).tolist():
            row = self._rows[pair]
            self.pairs[row].append(pair)
            self._best[row] = max(self._best[row], self._weights[pair])

    def add(self, first: int) -> None:
        """Take in a row: along the shortest path, each row takes the column of the next one.

        The last one takes a column that is free, or none.
        """
        lengths: dict[int, float] = {}  # of the shortest paths to rows,
        wanted: dict[int, int] = {}  # and the pair of the row before that wants its column
        ahead: list[tuple[float, int, int]] = []  # length, the pair that it ends with, its row
        row, length = first, 0.0
        while row != _NONE:
            lengths[row] = length
            heappush(ahead, (length + self._best[row], _NONE, row))
            for pair in self.pairs[row]:
                heappush(ahead, (length + self._shortage(pair), pair, row))
            owner = row
            while owner in lengths:
                length, last, end = heappop(ahead)
                owner = self._owner(last)
            wanted[owner] = last
            row = owner
        self._change_prices(lengths, length)
        self._exchange(last, end, wanted)

    def _shortage(self, pair: int) -> float:
        price = self._prices[self._columns[pair]]
        return float(self._best[self._rows[pair]] + price - self._weights[pair])

    def _owner(self, pair: int) -> int:
        """The row that has the column of a pair."""
        return _NONE if pair == _NONE else self._owners[self._columns[pair]]

    def _change_prices(self, lengths: dict[int, float], whole: float) -> None:
        """Make every step of the path, and of those as short, one of length 0."""
        for row, length in lengths.items():
            self._best[row] -= whole - length
            if self.chosen[row] != _NONE:
                self._prices[self._columns[self.chosen[row]]] += whole - length

    def _exchange(self, pair: int, row: int, wanted: dict[int, int]) -> None:
        """Give its last pair to the row at the end of the path, and so on back to the first."""
        while True:
            left, self.chosen[row] = self.chosen[row], pair
            if pair != _NONE:
                self._owners[self._columns[pair]] = row
            if left == _NONE:
                return
            pair = wanted[row]
            row = self._rows[pair]

# SPDX-License-Identifier: Apache-2.0
"""The grids of cells that rows of an output belong to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.layout import Facts

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))
"""Strides that networks have, the usual ones first."""
FOLLOWS = 0.6
"""Least correlation of centres with the cells; it is above 0.9 with random weights too."""


class Grid(NamedTuple):
    """Strides of an output, the smallest first, and its number of rows for each cell."""

    strides: tuple[int, ...]
    per_cell: int


def find_grid(facts: Facts, rows: int, per_cells: tuple[int, ...]) -> Grid | None:
    """Return the grid with a number of rows; None if there is none."""
    for per_cell in per_cells:
        for strides in STRIDES:
            if facts.cells(strides) * per_cell == rows:
                return Grid(strides, per_cell)
    return None


def scale_of_centres(facts: Facts, grid: Grid, centres: NDArray[Any]) -> float:
    """Return what the x of the centres are in units of input pixels.

    Args:
        facts: of the network.
        grid: of the rows.
        centres: x (R,) for an image.

    Returns:
        1 for pixels, 1 / width for fractions of the image, 0 for offsets within the cells.
    """
    width, height = facts.size
    expected = [
        np.tile(
            np.tile((np.arange(-(-width // stride)) + 0.5) * stride, -(-height // stride)),
            grid.per_cell,
        )
        for stride in grid.strides
    ]
    cells, found = np.concatenate(expected), np.asarray(centres, np.float64)
    if not np.isfinite(found).all() or found.std() == 0:
        return 0.0
    if np.corrcoef(cells, found)[0, 1] < FOLLOWS:
        return 0.0
    slope = float(np.polyfit(cells, found, 1)[0])
    return 1.0 if slope > np.sqrt(1 / width) else 1 / width


class Cells(NamedTuple):
    """Tensors (N, K), float32: column and row of cells, their stride, and the row's anchor.

    ``anchor`` is a whole number, the position in the list of all anchors.
    """

    x: str
    y: str
    stride: str
    anchor: str


def cells_of(builder: GraphBuilder, grid: Grid, places: str) -> Cells:
    """Add what finds the cells of rows.

    Rows are ordered by scale, cell (row by row) and anchor. What follows is whole numbers of a few
    hundred places, so it needs no table of all cells, which would have to follow the input's size.

    Args:
        builder: of the graph.
        grid: of the rows.
        places: positions (N, K) of rows.
    """
    op = builder.op
    within, level, begin = places, builder.number(0), builder.number(0)
    # Of the shape of ``places``, also where there is one scale only.
    stride = op("Add", op("Mul", places, builder.number(0)), builder.number(grid.strides[0]))
    columns, count = _columns(builder, grid, 0)
    for scale in range(1, len(grid.strides)):
        begin = op("Add", begin, count)
        reached = builder.cast(op("Greater", places, op("Sub", begin, builder.number(1))), np.int64)
        within = op("Sub", within, op("Mul", reached, count))
        step = grid.strides[scale] - grid.strides[scale - 1]
        stride = op("Add", stride, op("Mul", reached, builder.number(step)))
        level = op("Add", level, reached)
        wider, count = _columns(builder, grid, scale)
        before, _ = _columns(builder, grid, scale - 1)
        columns = op("Add", columns, op("Mul", reached, op("Sub", wider, before)))
    per_cell = builder.number(grid.per_cell)
    cell = op("Div", within, per_cell)
    y = op("Div", cell, columns)
    x = op("Sub", cell, op("Mul", y, columns))
    slot = op("Sub", within, op("Mul", cell, per_cell))
    anchor = op("Add", op("Mul", level, per_cell), slot)
    x, y, stride = (builder.cast(tensor, np.float32) for tensor in (x, y, stride))
    return Cells(x, y, stride, anchor)


def _columns(builder: GraphBuilder, grid: Grid, scale: int) -> tuple[str, str]:
    """Columns of a scale, and how many rows of the output it has."""
    stride = builder.number(grid.strides[scale])
    columns, rows = (
        builder.op("Div", builder.op("Add", side, builder.number(grid.strides[scale] - 1)), stride)
        for side in (builder.width, builder.height)
    )
    cells = builder.op("Mul", columns, rows)
    return columns, builder.op("Mul", cells, builder.number(grid.per_cell))

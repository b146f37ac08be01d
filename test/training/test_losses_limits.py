# SPDX-License-Identifier: Apache-2.0
"""The box losses at their limits: no label and no logit makes them infinite or NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import KINDS, SIZE, YOLO, maps, shapes
from torch import Tensor

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid, cells, decode_boxes, flatten
from training.losses.assignment import assign
from training.losses.box_loss import darknet_ciou_error, encode, squared_error, yolov3_error
from training.losses.criterion import criterion
from training.losses.overlap import (
    aspect_gap,
    centre_gap,
    complete_iou,
    generalized_iou,
    iou,
    share_inside,
    size_iou,
)

BEGIN, WIDTH = torch.tensor([[32.0, 48.0]]), torch.tensor([[16.0]])
ANCHOR = torch.tensor([[30.0, 61.0]])
CELLS = cells(maps(YOLO, 1, 0), YOLO)


def truth(x: float, y: float, w: float, h: float) -> Tensor:
    return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])


@pytest.mark.parametrize(
    ("width", "height", "counted"),
    [(8, 4, (8, 4)), (1, 1, (1, 1)), (0.5, 4, (1, 4)), (4, 0.25, (4, 1)), (0, 0, (1, 1))],
)
def test_a_side_below_a_pixel_counts_as_one(width: float, height: float, counted: tuple) -> None:
    _, scale = encode(truth(40, 50, width, height), BEGIN, WIDTH, ANCHOR)
    expected = [math.log(side / anchor) for side, anchor in zip(counted, (30, 61), strict=True)]
    assert scale[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (32, 48, (0, 0)),
        (48, 64, (1, 1)),
        (36, 60, (0.25, 0.75)),
        (31.99, 70, (0, 1)),  # a centre just outside, as rounding can make it
        (49, 40, (1, 0)),
    ],
)
def test_a_place_is_within_the_range_of_the_centre(x: float, y: float, place: tuple) -> None:
    found, _ = encode(truth(x, y, 8, 8), BEGIN, WIDTH, ANCHOR)
    assert found[0].tolist() == pytest.approx(place)


@settings(max_examples=25)
@given(
    st.floats(0, SIZE[1], width=32), st.floats(0, SIZE[0], width=32),
    st.floats(0, 300, width=32), st.floats(0, 300, width=32),
)  # fmt: skip
def test_what_is_encoded_decodes_to_the_object(x: float, y: float, w: float, h: float) -> None:
    """With its responsible prediction, wherever the object lies in the image."""
    objects = torch.cat((torch.zeros(1, 2), truth(x, y, w, h)), 1)
    _, row = assign(objects, YOLO, shapes(YOLO), None)
    where = tuple(table[row] for table in CELLS)
    place, scale = encode(objects[:, 2:], *where)
    assert ((place >= 0) & (place <= 1)).all()
    logits = torch.cat((place.double().logit(eps=1e-9), scale.double()), 1)
    found = decode_boxes(logits, *where)
    wanted = truth(x, y, max(w, 1), max(h, 1)).double()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("logit", [8.0, 9.0, 88.0, 1e4])
def test_a_decoded_side_is_at_most_2981_anchors(logit: float) -> None:
    """A cap that keeps float32 finite: the exponential of 8."""
    rows = torch.tensor([[0.0, 0.0, logit, logit]], requires_grad=True)
    box = decode_boxes(rows, BEGIN, WIDTH, ANCHOR)
    sides = (box[:, 2:] - box[:, :2])[0]
    assert sides.tolist() == pytest.approx([30 * math.exp(8), 61 * math.exp(8)], rel=1e-4)
    box.sum().backward()
    assert rows.grad is not None and rows.grad.isfinite().all()


def test_below_the_cap_a_side_is_the_exponential() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0.0, 7.9, -7.9]]), BEGIN, WIDTH, ANCHOR)
    sides = (box[:, 2:] - box[:, :2])[0].tolist()
    assert sides == pytest.approx([30 * math.exp(7.9), 61 * math.exp(-7.9)], rel=1e-2)


@pytest.mark.parametrize("logit", [20.0, 1e4, -1e4])
def test_the_error_of_darknets_ciou_is_finite_for_any_logit(logit: float) -> None:
    logits = torch.tensor([[logit, -logit, logit, logit]], requires_grad=True)
    boxes = decode_boxes(logits.detach(), BEGIN, WIDTH, ANCHOR) / 160
    error = darknet_ciou_error(logits, boxes, truth(40, 50, 20, 30) / 160)
    error.sum().backward()
    assert error.isfinite().all() and 0 <= error.item() < 3
    assert logits.grad is not None and logits.grad.isfinite().all()
    # beyond the cap a larger logit makes no larger box
    if logit > 8:
        assert logits.grad[0, 2:].tolist() == [0, 0]


def test_errors_of_a_centre_at_the_edge_of_its_cell_are_finite() -> None:
    """The entropy of a place of 0 or 1 is 0, not NaN."""
    place, scale = encode(truth(32, 64, 30, 61), BEGIN, WIDTH, ANCHOR)
    logits = torch.tensor([[-40.0, 40.0, 0.0, 0.0]])
    assert yolov3_error(logits, place, scale).item() == pytest.approx(0, abs=1e-6)
    assert squared_error(logits, place, scale).item() == pytest.approx(0, abs=1e-6)
    other = torch.tensor([[0.0, 0.0, 1.0, -2.0]])
    assert yolov3_error(other, place, scale).item() == pytest.approx(2 * math.log(2) + 2.5)
    assert squared_error(other, place, scale).item() == pytest.approx(0.25 + 2.5)


EXTREME = {
    "no size": truth(80, 48, 0, 0),
    "a line": truth(80, 48, 50, 0),
    "a corner of the image": truth(160, 96, 30, 30),
    "the other corner": truth(0, 0, 30, 30),
    "between two cells": truth(32, 64, 20, 20),
    "far larger than the image": truth(80, 48, 1e4, 1e4),
}


@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("box", EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_no_object_and_no_map_makes_a_loss_infinite(kind: str, box: Tensor, spread: float) -> None:
    how, grid = KINDS[kind]
    inputs = [(m.float() * spread).requires_grad_() for m in maps(grid, 1, seed=3)]
    targets = Targets.of(torch.cat((torch.tensor([[0.0, 1.0]]), box), 1))
    loss = criterion(how, grid)(inputs, targets, 0)
    loss.total.backward()
    assert all(part.isfinite() for part in loss)
    assert all(m.grad is not None and m.grad.isfinite().all() for m in inputs)


def test_a_range_that_is_wider_than_its_cell_widens_the_place() -> None:
    grid = AnchorGrid(xy_scales=(2.0, 2.0, 2.0))
    begin, width, anchors = cells(maps(grid, 1, 0), grid)
    x, y = 1.5, 2.25  # in cells of the first level, whose stride is 8
    row = 3 * (2 * SIZE[1] // 8 + 1)
    place, _ = encode(
        truth(8 * x, 8 * y, 20, 20), begin[row : row + 1], width[row : row + 1], anchors[:1]
    )
    # the range begins half a cell before the cell (1, 2), and is two cells wide
    assert place[0].tolist() == pytest.approx([(x - 0.5) / 2, (y - 1.5) / 2])
    logits = torch.cat((place.logit(), torch.zeros(1, 2)), 1)
    found = decode_boxes(logits, begin[row : row + 1], width[row : row + 1], anchors[:1])
    middle = (found[:, :2] + found[:, 2:]) / 2
    assert middle[0].tolist() == pytest.approx([8 * x, 8 * y])


def test_rows_are_ordered_by_level_line_column_and_anchor() -> None:
    """The table of the places goes with that of the logits."""
    values = maps(YOLO, 1, 0)
    table, (begin, width, anchors) = flatten(values, 3), cells(values, YOLO)
    row = 0
    for level, stride in enumerate(YOLO.strides):
        for line in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                for number, anchor in enumerate(YOLO.anchors[level]):
                    first = 8 * number
                    own = values[level][0, first : first + 8, line, column]
                    assert torch.equal(table[0, row], own)
                    assert begin[row].tolist() == [column * stride, line * stride]
                    assert width[row].tolist() == [stride]
                    assert anchors[row].tolist() == list(anchor)
                    row += 1
    assert row == table.shape[1]


@pytest.mark.parametrize(
    "measure",
    [iou, generalized_iou, complete_iou, centre_gap, aspect_gap, share_inside],
    ids=lambda measure: measure.__name__,
)
def test_two_boxes_of_no_size_in_one_place_have_finite_overlaps(measure: Callable) -> None:
    box = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)
    value = measure(box, torch.tensor([[5.0, 5, 5, 5]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert box.grad is not None and box.grad.isfinite().all()


def test_two_sizes_of_zero_have_a_finite_overlap() -> None:
    assert size_iou(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [0]


@pytest.mark.parametrize(("least", "also"), [(0.5, True), (0.5001, False)])
def test_an_anchor_that_fits_exactly_as_much_as_asked_is_responsible_too(
    least: float, also: bool
) -> None:
    """An object of 20 x 10 pixels is one anchor, and has half its area in common with the other."""
    grid = AnchorGrid(anchors=(((10, 10), (20, 10)),), strides=(8,))
    _, row = assign(torch.tensor([[0.0, 0, 30, 35, 50, 45]]), grid, shapes(grid), least)
    first = 2 * (5 * SIZE[1] // 8 + 5)  # of the cell in column and line 5
    assert row.tolist() == ([first, first + 1] if also else [first + 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_of_a_map_of_any_precision_is_float32_at_least(dtype: torch.dtype) -> None:
    how, grid = KINDS["giou"]
    targets = Targets.of(torch.tensor([[0.0, 1, 20, 20, 60, 50]]))
    exact = [m.to(dtype).double() for m in maps(grid, 1, seed=4)]
    loss = criterion(how, grid)([m.to(dtype) for m in exact], targets)
    assert loss.total.dtype == torch.promote_types(dtype, torch.float32)
    expected = criterion(how, grid)(exact, targets).total.item()
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def test_a_box_of_no_size_counts_as_a_square() -> None:
    """It has no shape of its own that a prediction could be drawn to."""
    nothing, square = torch.tensor([[5.0, 5, 5, 5]]), torch.tensor([[0.0, 0, 8, 8]])
    assert aspect_gap(square, nothing).item() == pytest.approx(0, abs=1e-12)
    wide = aspect_gap(torch.tensor([[0.0, 0, 8, 2]]), nothing).item()
    assert wide == pytest.approx(4 / math.pi**2 * (math.atan(4) - math.atan(1)) ** 2)

# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid, cells, decode_boxes, flatten
from training.detectors.loss_settings import LossSettings
from training.losses.assignment import assign
from training.losses.criterion import criterion
from training.losses.overlap import generalized_iou, iou, size_iou

GRID = AnchorGrid()
SIZE = (96, 160)
SHAPES = [(SIZE[0] // s, SIZE[1] // s) for s in GRID.strides]
CLASSES = 2
yolo_loss = criterion(LossSettings(), GRID)


def blank(images: int = 1) -> list[torch.Tensor]:
    return [torch.zeros(images, 3 * (5 + CLASSES), h, w) for h, w in SHAPES]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@st.composite
def objects(draw):
    """Rows (T, 6) of objects whose centres lie inside the picture."""
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        x = draw(st.floats(0, SIZE[1], width=32))
        y = draw(st.floats(0, SIZE[0], width=32))
        w, h = draw(st.floats(2, 300, width=32)), draw(st.floats(2, 300, width=32))
        rows.append((draw(st.integers(0, 1)), 0, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return torch.tensor(rows).reshape(-1, 6)


def assign_slowly(targets: torch.Tensor, also_above: float | None) -> set[tuple[int, int]]:
    """The definition, one object, level, cell and anchor after the other."""
    pairs = set()
    for number, (_, _, x1, y1, x2, y2) in enumerate(targets.tolist()):
        w, h = np.float32(x2) - np.float32(x1), np.float32(y2) - np.float32(y1)
        fits = {}
        for level, anchors in enumerate(GRID.anchors):
            for index, (anchor_w, anchor_h) in enumerate(anchors):
                inside = min(w, anchor_w) * min(h, anchor_h)
                fits[level, index] = inside / (w * h + anchor_w * anchor_h - inside)
        best = max(fits.values())
        for (level, index), fit in fits.items():
            if fit < best - 1e-6 and not (also_above is not None and fit >= also_above):
                continue
            stride, (height, width) = GRID.strides[level], SHAPES[level]
            # in float32, where a centre just above the edge of a cell may round to it
            x, y = (np.float32(x1) + np.float32(x2)) / 2, (np.float32(y1) + np.float32(y2)) / 2
            column, line = min(int(x / stride), width - 1), min(int(y / stride), height - 1)
            first = sum(3 * a * b for a, b in SHAPES[:level])
            pairs.add((number, first + 3 * (line * width + column) + index))
    return pairs


@given(objects(), st.sampled_from([None, 0.3, 0.6]))
def test_assignment_is_the_slow_definition(targets, also_above):
    pairs = assign(targets, GRID, SHAPES, also_above)
    assert set(zip(*(p.tolist() for p in pairs), strict=True)) == assign_slowly(targets, also_above)


def test_an_object_goes_to_the_cell_and_anchor_that_decode_to_it():
    # 62 x 45 is an anchor of stride 16; its centre lies in the cell (x 2, y 3)
    target = torch.tensor([[0.0, 1, 40 - 31, 56 - 22.5, 40 + 31, 56 + 22.5]])
    _, row = assign(target, GRID, SHAPES, None)
    maps = blank()
    boxes = decode_boxes(flatten(maps, 3), *cells(maps, GRID))
    torch.testing.assert_close(boxes[0, row], target[:, 2:])


def test_a_centre_on_the_far_edge_belongs_to_the_last_cell():
    height, width = SIZE
    target = torch.tensor([[0.0, 0, width - 31, height - 22.5, width + 31, height + 22.5]])
    _, row = assign(target, GRID, SHAPES, None)
    first = 3 * SHAPES[0][0] * SHAPES[0][1]
    assert row.tolist() == [first + 3 * SHAPES[1][0] * SHAPES[1][1] - 3 + 1]


@pytest.mark.parametrize(
    "other, expected_iou, expected_giou",
    [
        ((0, 0, 2, 2), 1, 1),
        ((1, 0, 3, 2), 1 / 3, 1 / 3),
        ((3, 0, 5, 2), 0, -2 / 10),
        ((1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
    ],
)
def test_overlaps_worked_out_by_hand(other, expected_iou, expected_giou):
    a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor(other, dtype=torch.float32)
    assert iou(a, b).item() == pytest.approx(expected_iou)
    assert generalized_iou(a, b).item() == pytest.approx(expected_giou)


def test_size_overlap_ignores_the_place():
    assert size_iou(torch.tensor([2.0, 4]), torch.tensor([4.0, 2])).item() == pytest.approx(1 / 3)


def test_an_image_without_objects_has_only_an_objectness_loss():
    loss = yolo_loss(blank(2), Targets.of(torch.zeros(0, 6)))
    rows = sum(3 * h * w for h, w in SHAPES)
    assert loss.objectness.item() == pytest.approx(rows * math.log(2), rel=1e-5)
    assert loss.box.item() == loss.classes.item() == 0


def test_loss_worked_out_by_hand():
    # zeros decode to the anchor itself, so an object on an anchor has GIoU 1 and two unsure classes
    target = torch.tensor([[0.0, 1, 40 - 31, 56 - 22.5, 40 + 31, 56 + 22.5]])
    maps = blank()
    for m in maps:
        m[:, 4::7] = logit(0.01)
    maps[1][0, 7 + 4, 3, 2] = logit(0.25)
    loss = yolo_loss(maps, Targets.of(target))
    assert loss.box.item() == pytest.approx(0, abs=1e-5)
    assert loss.classes.item() == pytest.approx(2 * math.log(2))
    rows = sum(3 * h * w for h, w in SHAPES)
    boxes = decode_boxes(flatten(maps, 3), *cells(maps, GRID))[0]
    ignored = int((iou(boxes, target[:, 2:]) >= 0.5).sum()) - 1
    assert ignored > 0
    expected = -math.log(0.25) - (rows - 1 - ignored) * math.log(0.99)
    assert loss.objectness.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_a_mean_over_images():
    target = torch.tensor([[0.0, 1, 10, 10, 60, 50]])
    both = torch.cat((target, target + torch.tensor([1.0, 0, 0, 0, 0, 0])))
    torch.manual_seed(0)
    maps = [torch.randn_like(m) for m in blank()]
    once = yolo_loss(maps, Targets.of(target))
    twice = yolo_loss([m.repeat(2, 1, 1, 1) for m in maps], Targets.of(both))
    torch.testing.assert_close(torch.stack(once), torch.stack(twice))


@pytest.mark.parametrize(
    "right, down, wider, higher",
    [(3, -3, 1, 1), (-3, 3, 1, 1), (0, 0, 1.2, 1.2), (0, 0, 0.8, 0.8)],
)
def test_gradients_point_towards_the_object(right, down, wider, higher):
    """The object is moved and scaled against what an untrained row (an anchor in mid-cell) says."""
    x, y, w, h = 40 + right, 56 + down, 31 * wider, 22.5 * higher
    target = torch.tensor([[0.0, 1, x - w, y - h, x + w, y + h]])
    maps = [m.requires_grad_() for m in blank()]
    yolo_loss(maps, Targets.of(target)).total.backward()
    _, row = assign(target, GRID, SHAPES, None)
    gradient = flatten([m.grad for m in maps], 3)[0, row[0]]
    descent = torch.sign(-gradient).tolist()
    wanted = torch.sign(torch.tensor([right, down, wider - 1, higher - 1])).tolist()
    assert [d for d, w in zip(descent[:4], wanted, strict=True) if w] == [w for w in wanted if w]
    assert descent[4:] == [1, -1, 1], "an object, of the second class"


def test_a_prediction_of_two_objects_is_trained_for_both():
    pair = torch.tensor([[0.0, 0, 10, 10, 70, 54], [0.0, 1, 11, 10, 71, 54]])
    maps = [m.requires_grad_() for m in blank()]
    loss = yolo_loss(maps, Targets.of(pair))
    assert loss.classes.item() == pytest.approx(4 * math.log(2), rel=1e-5)

# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from training.losses.overlap import (
    aspect_gap,
    centre_gap,
    complete_iou,
    generalized_iou,
    iou,
    share_inside,
)

length = st.floats(1, 200)
place = st.floats(-100, 100)


@st.composite
def box(draw):
    x, y = draw(place), draw(place)
    return x, y, x + draw(length), y + draw(length)


def tensor(*boxes) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64)


def overlap(a, b) -> tuple[float, float]:
    """Intersection and union."""
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h, areas - w * h


def hull(a, b) -> tuple[float, float]:
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def giou_slowly(a, b) -> float:
    inside, union = overlap(a, b)
    w, h = hull(a, b)
    return inside / union - (w * h - union) / (w * h)


def ciou_slowly(a, b) -> float:
    """Equations 6, 8, 9, 10 and 11 of the paper, in its symbols."""
    inside, union = overlap(a, b)
    w, h = hull(a, b)
    rho = math.dist(((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2))
    shape_a, shape_b = (math.atan((x[2] - x[0]) / (x[3] - x[1])) for x in (a, b))
    v = 4 / math.pi**2 * (shape_a - shape_b) ** 2
    alpha = v / ((1 - inside / union) + v) if v else 0
    return inside / union - (rho**2 / (w**2 + h**2) + alpha * v)


@given(box(), box())
def test_overlaps_are_their_definitions(a, b):
    assert generalized_iou(tensor(a), tensor(b)).item() == pytest.approx(giou_slowly(a, b))
    assert complete_iou(tensor(a), tensor(b)).item() == pytest.approx(ciou_slowly(a, b), abs=1e-6)


@given(box(), box())
def test_overlaps_keep_their_range_and_symmetry(a, b):
    a, b = tensor(a), tensor(b)
    for measure, lowest in ((iou, 0), (generalized_iou, -1), (complete_iou, -2)):
        assert lowest <= measure(a, b).item() <= 1
        assert measure(a, b).item() == pytest.approx(measure(b, a).item())
        assert measure(a, a).item() == pytest.approx(1)
        assert measure(a, b).item() <= iou(a, b).item() + 1e-12


def test_ciou_by_hand():
    # IoU 1/3, centres 2 apart in a hull of 6 x 4, squares both: no aspect term
    same_shape = complete_iou(tensor((0, 0, 4, 4)), tensor((2, 0, 6, 4)))
    assert same_shape.item() == pytest.approx(1 / 3 - 4 / 52)
    # 4 x 2 in 4 x 4, same centre: IoU 1/2, and only the aspect term
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    same_centre = complete_iou(tensor((0, 1, 4, 3)), tensor((0, 0, 4, 4)))
    assert same_centre.item() == pytest.approx(0.5 - v * v / (0.5 + v))


BOXES = tensor((10, 12, 40, 33), (0, 0, 10, 40), (5, 5, 9, 9))
TRUTHS = tensor((14, 10, 50, 31), (20, 3, 60, 10), (0, 1, 30, 28))


@pytest.mark.parametrize("measure", [iou, generalized_iou, centre_gap, aspect_gap, share_inside])
def test_gradients_are_numerical_ones(measure):
    assert gradcheck(lambda boxes: measure(boxes, TRUTHS), BOXES.clone().requires_grad_())


def test_no_gradient_flows_through_the_weight_of_the_aspect():
    boxes = BOXES.clone().requires_grad_()
    complete_iou(boxes, TRUTHS).sum().backward()
    weights = []
    for a, b in zip(BOXES.tolist(), TRUTHS.tolist(), strict=True):
        inside, union = overlap(a, b)
        v = aspect_gap(tensor(a), tensor(b)).item()
        weights.append(v / (1 - inside / union + v))
    fixed = BOXES.clone().requires_grad_()
    gaps = centre_gap(fixed, TRUTHS) + torch.tensor(weights) * aspect_gap(fixed, TRUTHS)
    (iou(fixed, TRUTHS) - gaps).sum().backward()
    torch.testing.assert_close(boxes.grad, fixed.grad)


def test_a_box_of_no_size_has_a_finite_gradient():
    boxes = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)
    (complete_iou(boxes, torch.tensor([[0.0, 0, 9, 9]])).sum()).backward()
    assert boxes.grad.isfinite().all()


def test_share_inside_forgives_small_boxes_in_a_crowd():
    crowd, person = tensor((0, 0, 100, 100)), tensor((10, 10, 20, 30))
    assert share_inside(person, crowd).item() == pytest.approx(1)
    assert share_inside(crowd, person).item() == pytest.approx(0.02)

# SPDX-License-Identifier: Apache-2.0
"""Overlap of boxes, given as x1 y1 x2 y2 in any one unit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-9


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes (..., 4), broadcast against each other."""
    inside, union = _intersection_and_union(a, b)
    return inside / (union + TINY)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return GIoU in (-1, 1] of boxes (..., 4) (Rezatofighi et al., 2019, algorithm 1)."""
    inside, union = _intersection_and_union(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inside / (union + TINY) - (hull - union) / (hull + TINY)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return CIoU in (-2, 1] of boxes (..., 4) (Zheng et al., 2020, equations 6 and 8 to 11).

    No gradient flows through alpha, the weight of the aspect term, as in equation 12.
    """
    overlap, aspect = iou(a, b), aspect_gap(a, b)
    return overlap - centre_gap(a, b) - aspect_weight(overlap, aspect) * aspect


def centre_gap(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance of the centres over the squared diagonal of the hull, 0 to 1."""
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return apart.square().sum(-1) / (hull.square().sum(-1) + TINY)


def aspect_gap(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared difference of the angles of the diagonals, 0 to 1 (v in CIoU)."""
    sides = ((x[..., 2:] - x[..., :2]).clamp(min=TINY) for x in (a, b))
    one, other = (torch.atan2(*side.unbind(-1)) for side in sides)
    return (one - other).square() * (4 / math.pi**2)


def aspect_weight(overlap: Tensor, aspect: Tensor) -> Tensor:
    """Return the weight of the aspect term, 0 to 1 (alpha in CIoU), detached."""
    aspect = aspect.detach()
    return aspect / (1 - overlap.detach() + aspect + TINY)


def share_inside(a: Tensor, b: Tensor) -> Tensor:
    """Return the share of the area of boxes ``a`` (..., 4) inside ``b``, broadcast."""
    inside, _ = _intersection_and_union(a, b)
    return inside / ((a[..., 2:] - a[..., :2]).prod(-1) + TINY)


def size_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of sizes (..., 2) with a common centre."""
    inside = torch.minimum(a, b).prod(-1)
    return inside / (a.prod(-1) + b.prod(-1) - inside + TINY)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    # one coordinate at a time: faster than products over an axis of two
    left, top, right, bottom = a.unbind(-1)
    left_b, top_b, right_b, bottom_b = b.unbind(-1)
    width = torch.minimum(right, right_b) - torch.maximum(left, left_b)
    height = torch.minimum(bottom, bottom_b) - torch.maximum(top, top_b)
    inside = width.clamp(min=0) * height.clamp(min=0)
    areas = (right - left) * (bottom - top) + (right_b - left_b) * (bottom_b - top_b)
    return inside, areas - inside

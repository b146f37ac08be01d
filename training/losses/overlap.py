# SPDX-License-Identifier: Apache-2.0
"""Overlap of boxes (xyxy, any one unit)."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-9


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast against each other."""
    inside, union = _intersection_and_union(a, b)
    return inside / (union + TINY)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return GIoU in (-1, 1] of boxes (..., 4) (Rezatofighi et al., 2019, algorithm 1)."""
    inside, union = _intersection_and_union(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inside / (union + TINY) - (hull - union) / (hull + TINY)


def size_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of sizes (..., 2), as if the boxes shared their centre."""
    inside = torch.minimum(a, b).prod(-1)
    return inside / (a.prod(-1) + b.prod(-1) - inside + TINY)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inside = sides.clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    return inside, union

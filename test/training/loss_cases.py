# SPDX-License-Identifier: Apache-2.0
"""Grids, maps and objects that the tests of the losses share."""

from __future__ import annotations

import math

import torch

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.loss_settings import LossSettings
from training.losses.assignment import assign

SIZE = (96, 160)
CLASSES = 3
YOLO = AnchorGrid()
SCALED = AnchorGrid(xy_scales=(1.05, 1.05, 1.05))
V2 = AnchorGrid(
    anchors=(((35, 38), (109, 141), (212, 364), (301, 164), (532, 337)),),
    strides=(32,),
    softmax=True,
)

# Every kind of loss, with a grid that goes with it.
KINDS = {
    "giou": (LossSettings(), YOLO),
    "several": (LossSettings(also_above=0.3), YOLO),
    "ciou": (LossSettings(box="ciou"), YOLO),
    "darknet": (
        LossSettings(box="ciou", gradient="darknet", box_weight=0.07, ignore_score=0.25),
        SCALED,
    ),
    "sse": (LossSettings(kind="sse", ignore_iou=0.7), YOLO),
    "region": (
        LossSettings(
            kind="region", objectness_weight=5, ignore_iou=0.6, rescore=True, anchor_pull=100
        ),
        V2,
    ),
    "task_aligned": (LossSettings(assignment="task_aligned", top_k=4), YOLO),
}


def shapes(grid: AnchorGrid) -> list[tuple[int, int]]:
    return [(SIZE[0] // s, SIZE[1] // s) for s in grid.strides]


def maps(grid: AnchorGrid, images: int, seed: int, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = grid.per_cell * (5 + CLASSES)
    return [
        torch.randn(images, channels, h, w, generator=generator, dtype=dtype)
        for h, w in shapes(grid)
    ]


def objects(images: int, count: int, seed: int, grid: AnchorGrid = YOLO) -> Targets:
    """Objects of the given number, no two of them for the same row, sorted by image."""
    generator = torch.Generator().manual_seed(seed)

    def random(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    rows: list[list[float]] = []
    while len(rows) < count:
        image, label = int(random(0, images)), int(random(0, CLASSES))
        w, h = math.exp(random(1.5, 5)), math.exp(random(1.5, 5))
        x, y = random(1, SIZE[1] - 1), random(1, SIZE[0] - 1)
        row = [image, label, x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        table = torch.tensor([*rows, row])
        target, place = assign(table, grid, shapes(grid), 0.2)
        wanted = list(zip(table[target, 0].tolist(), place.tolist(), strict=True))
        if len(set(wanted)) == len(wanted):
            rows.append(row)
    rows.sort()
    return Targets.of(torch.tensor(rows).reshape(-1, 6))

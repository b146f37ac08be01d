# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw
from loss_cases import KINDS
from torch import nn

from training.data.batch import collate
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.losses.criterion import criterion
from training.losses.overlap import iou
from training.losses.predictions import read_predictions

ANCHORS = ((24, 24), (32, 32), (40, 40))
STEPS = 120


class Tiny(nn.Module):
    """Images (N, 3, H, W) to the raw map of stride 32."""

    def __init__(self, grid: AnchorGrid) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 8, 8),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 64, 4, 4),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.LeakyReLU(0.1),
            output_layer(64, grid, 2),
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(images - 0.4)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_loss_finds_drawn_objects(kind):
    settings, grid = KINDS[kind]
    scales = grid.xy_scales[:1]
    grid = replace(grid, anchors=(ANCHORS,), strides=(32,), xy_scales=scales)
    rng = np.random.default_rng(1)
    batch = collate([draw(rng), draw(rng)])
    images = batch.images.permute(0, 3, 1, 2).float() / 255
    model, loss = Tiny(grid), criterion(settings, grid)
    optimizer = torch.optim.Adam(model.parameters(), 0.0015)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(model(images), batch.targets, 2 * step).total.backward()
        optimizer.step()

    rows = read_predictions([m.detach() for m in model(images)], grid)
    classes = rows.logits[..., 5:]
    scores = classes.softmax(-1) if grid.softmax else classes.sigmoid()
    scores = scores * rows.logits[..., 4:5].sigmoid()
    for number, label, *box in batch.targets.objects.tolist():
        overlaps = iou(rows.boxes[int(number)], torch.tensor(box))
        near = overlaps > 0.5
        best = torch.where(near, scores[int(number), :, int(label)], 0).argmax()
        assert scores[int(number), best].argmax() == label
        assert scores[int(number), best, int(label)] > 0.3
        assert overlaps[best] > 0.6
    for image in range(2):
        mine = batch.targets.objects[batch.targets.objects[:, 0] == image, 2:]
        surest = scores[image].amax(-1).topk(len(mine)).indices
        found = iou(rows.boxes[image][surest][:, None], mine[None]).amax(1)
        assert (found > 0.5).all(), "nothing is surer than what is there"

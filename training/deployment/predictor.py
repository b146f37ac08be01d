# SPDX-License-Identifier: Apache-2.0
"""The deployed form of a detector: pixels in, ranked boxes out."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from compact_yolo_ros.model.sizes import MIN_SIDE
from training.detectors.anchor_grid import AnchorGrid, cells, decode_boxes, flatten
from training.detectors.interface import Network, as_module

CANDIDATES = 300


class Predictor(nn.Module):
    """Images (N, H, W, 3) uint8 RGB to boxes (N, 300, 4), scores (N, 300), labels (N, 300).

    Boxes are x1 y1 x2 y2 in input pixels, float32. Scores are the objectness times the probability
    of the best class, in descending order; labels are int32. Height and width are multiples of 32,
    at least 160, unless the network was made for another size. A detector with few anchors has
    fewer candidates in a small input: the rest of the 300 have score 0.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.grid = network.grid
        self.detector = as_module(network)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.detector(images.permute(0, 3, 1, 2).float() * (1 / 255))
        grid = self.grid
        rows = flatten(maps, grid.per_cell)
        if grid.softmax:
            best, labels = rows[..., 5:].softmax(-1).max(-1)
        else:
            best, labels = rows[..., 5:].max(-1)
            best = best.sigmoid()
        scores = rows[..., 4].sigmoid() * best
        missing = CANDIDATES - (0 if grid.any_size else fewest_rows(grid))
        if missing > 0:
            scores, chosen = pad(scores, (0, missing)).topk(CANDIDATES, 1)
            chosen = chosen.clamp(max=rows.shape[1] - 1)
        else:
            scores, chosen = scores.topk(CANDIDATES, 1)
        rows = rows.gather(1, chosen[..., None].expand(-1, -1, rows.shape[2]))
        # Only the chosen rows are decoded; indexing a (R, k) table needs no batched gather.
        shape = (images.shape[1], images.shape[2]) if grid.any_size else None
        corners, strides, sizes = (table[chosen] for table in cells(maps, grid, shape))
        boxes = decode_boxes(rows, corners, strides, sizes, grid.squared)
        return boxes, scores, labels.gather(1, chosen).int()


def fewest_rows(grid: AnchorGrid) -> int:
    """Return the number of predictions for the smallest input."""
    return sum((MIN_SIDE // stride) ** 2 for stride in grid.strides) * grid.per_cell

# SPDX-License-Identifier: Apache-2.0
"""The losses of darknet's detectors against its procedure, one row and one object at a time.

darknet computes no loss but its slopes: what is compared is what reaches the logits.
"""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import CLASSES, KINDS, SIZE, maps, objects, shapes
from test_losses_overlap import hull, overlap

from training.detectors.anchor_grid import AnchorGrid, flatten
from training.detectors.loss_settings import LossSettings
from training.losses.criterion import criterion


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def corners(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def overlap_of(a, b) -> float:
    inside, union = overlap(a, b)
    return inside / union


class Place:
    """A row: its cell and anchor, and what it predicts, as shares of the image."""

    def __init__(
        self, values, level: int, column: int, line: int, anchor, grid: AnchorGrid
    ) -> None:
        self.values, self.column, self.line = values, column, line
        height, width = shapes(grid)[level]
        self.across, self.down = width, height
        self.anchor = anchor[0] / SIZE[1], anchor[1] / SIZE[0]
        scale = grid.xy_scales[level] if grid.xy_scales else 1
        x, y = (scale * sigmoid(v) - (scale - 1) / 2 for v in values[:2])
        self.centre = (column + x) / width, (line + y) / height
        self.sides = [math.exp(v) * a for v, a in zip(values[2:4], self.anchor, strict=True)]
        self.box = corners(*self.centre, *self.sides)


def places(rows, grid: AnchorGrid) -> list[Place]:
    found, number = [], 0
    for level, (height, width) in enumerate(shapes(grid)):
        for line in range(height):
            for column in range(width):
                for anchor in grid.anchors[level]:
                    found.append(Place(rows[number], level, column, line, anchor, grid))
                    number += 1
    return found


def numerical(function, point: list[float]) -> list[float]:
    slopes = []
    for index in range(len(point)):
        low, high = list(point), list(point)
        low[index] -= 1e-7
        high[index] += 1e-7
        slopes.append((function(high) - function(low)) / 2e-7)
    return slopes


def ciou_slopes(place: Place, truth) -> list[float]:
    """Of 1 - CIoU, along x, y, w, h as darknet has them; along the last two IoU counts twice."""
    point = [*place.centre, *place.sides]

    def gap(p):
        box, (w, h) = corners(*p), hull(corners(*p), truth)
        centres = [(b[i] + b[i + 2]) / 2 for b in (box, truth) for i in (0, 1)]
        return math.dist(centres[:2], centres[2:]) ** 2 / (w**2 + h**2)

    steep = numerical(lambda p: overlap_of(corners(*p), truth), point)
    slopes = [g - o for g, o in zip(numerical(gap, point), steep, strict=True)]
    slopes[2] -= steep[2]
    slopes[3] -= steep[3]
    w, h = place.sides
    turn = math.atan((truth[2] - truth[0]) / (truth[3] - truth[1])) - math.atan(w / h)
    v = 4 / math.pi**2 * turn**2
    alpha = v / (1 - overlap_of(place.box, truth) + v)
    slopes[2] -= alpha * 8 / math.pi**2 * turn * h
    slopes[3] += alpha * 8 / math.pi**2 * turn * w
    return slopes


def slopes_slowly(logits, targets, settings: LossSettings, grid: AnchorGrid, seen: int):
    """What darknet adds to the last layer's error, times -1, of every image, row and entry."""
    result = torch.zeros_like(logits)
    for image, rows in enumerate(logits.tolist()):
        found = places(rows, grid)
        truths = [
            (int(label), [c / s for c, s in zip(box, (*SIZE[::-1], *SIZE[::-1]), strict=True)])
            for number, label, *box in targets.objects.double().tolist()
            if number == image
        ]
        for number, place in enumerate(found):
            slope = result[image, number]
            probability = sigmoid(place.values[4])
            steepness = probability * (1 - probability) if settings.kind == "region" else 1
            slope[4] = settings.background_weight * probability * steepness
            best = max((overlap_of(place.box, box) for _, box in truths), default=0)
            sure = max(map(sigmoid, place.values[5:])) >= settings.ignore_score
            if best > settings.ignore_iou and sure:
                slope[4] = 0
            if seen < settings.anchor_pull:
                for entry in (0, 1):
                    s = sigmoid(place.values[entry])
                    slope[entry] = 0.01 * (s - 0.5) * s * (1 - s)
                    slope[entry + 2] = 0.01 * place.values[entry + 2]
        for label, box in truths:
            w, h = box[2] - box[0], box[3] - box[1]
            centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2

            def fit(place: Place, w: float = w, h: float = h) -> float:
                a, b = place.anchor
                return overlap_of(corners(0, 0, a, b), corners(0, 0, w, h))

            own = [
                (n, p)
                for n, p in enumerate(found)
                if (int(centre[0] * p.across), int(centre[1] * p.down)) == (p.column, p.line)
            ]
            best = max(own, key=lambda pair: fit(pair[1]))
            least = math.inf if settings.also_above is None else settings.also_above
            for number, place in own:
                if number != best[0] and fit(place) <= least:
                    continue
                slope, values = result[image, number], place.values
                if settings.kind == "yolo":
                    slope[:4] = settings.box_weight * torch.tensor(ciou_slopes(place, box))
                    slope[2] *= math.exp(values[2])
                    slope[3] *= math.exp(values[3])
                else:
                    weight = settings.box_weight * (2 - w * h if settings.kind == "sse" else 1)
                    x = centre[0] * place.across - place.column
                    y = centre[1] * place.down - place.line
                    for entry, wanted in ((0, x), (1, y)):
                        s = sigmoid(values[entry])
                        steepness = s * (1 - s) if settings.kind == "region" else 1
                        slope[entry] = weight * (s - wanted) * steepness
                    slope[2] = weight * (values[2] - math.log(w / place.anchor[0]))
                    slope[3] = weight * (values[3] - math.log(h / place.anchor[1]))
                probability = sigmoid(values[4])
                wanted = overlap_of(place.box, box) if settings.rescore else 1
                steepness = probability * (1 - probability) if settings.kind == "region" else 1
                slope[4] = settings.objectness_weight * (probability - wanted) * steepness
                scores = [sigmoid(v) for v in values[5:]]
                if grid.softmax:
                    total = sum(math.exp(v) for v in values[5:])
                    scores = [math.exp(v) / total for v in values[5:]]
                for entry in range(CLASSES):
                    truth = float(entry == label) * (1 - settings.label_smoothing)
                    truth += settings.label_smoothing / (CLASSES if grid.softmax else 2)
                    slope[5 + entry] = settings.classes_weight * (scores[entry] - truth)
    return result


SMOOTHED = LossSettings(kind="sse", label_smoothing=0.1, classes_weight=0.5, also_above=0.2)
CASES = {**{kind: KINDS[kind] for kind in ("sse", "region", "darknet")}}
CASES["smoothed"] = (SMOOTHED, KINDS["sse"][1])
FASTEST = LossSettings(
    box="ciou", gradient="darknet", box_weight=0.07, ignore_score=0.25, also_above=0.213
)
CASES["fastest"] = (FASTEST, KINDS["sse"][1])


@pytest.mark.parametrize("seen", [0, 100])
@pytest.mark.parametrize("kind", CASES)
def test_slopes_are_those_of_darknet(kind, seen):
    settings, grid = CASES[kind]
    targets = objects(2, 5, seed=seen, grid=grid)
    inputs = [m.requires_grad_() for m in maps(grid, 2, seed=seen + 1)]
    criterion(settings, grid)(inputs, targets, seen).total.backward()
    slopes = flatten([m.grad for m in inputs], grid.per_cell) * 2
    logits = flatten([m.detach() for m in inputs], grid.per_cell)
    expected = slopes_slowly(logits, targets, settings, grid, seen)
    torch.testing.assert_close(slopes, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["sse", "region"])
def test_a_perfect_prediction_has_only_a_background_loss(kind):
    settings, grid = CASES[kind]
    targets = objects(1, 3, seed=5, grid=grid)
    logits = [torch.full_like(m, 0.0) for m in maps(grid, 1, seed=0)]
    table = flatten(logits, grid.per_cell)
    table[..., 4] = -40
    found = places(table[0].tolist(), grid)
    for _, label, *box in targets.objects.double().tolist():
        w, h = (box[2] - box[0]) / SIZE[1], (box[3] - box[1]) / SIZE[0]
        x, y = (box[0] + box[2]) / 2 / SIZE[1], (box[1] + box[3]) / 2 / SIZE[0]
        own = [
            n
            for n, p in enumerate(found)
            if (int(x * p.across), int(y * p.down)) == (p.column, p.line)
        ]
        shape = corners(0, 0, w, h)
        number = max(own, key=lambda n: overlap_of(corners(0, 0, *found[n].anchor), shape))
        place = found[number]
        for entry, wanted in enumerate((x * place.across % 1, y * place.down % 1)):
            table[0, number, entry] = math.log(wanted / (1 - wanted))
        table[0, number, 2] = math.log(w / place.anchor[0])
        table[0, number, 3] = math.log(h / place.anchor[1])
        table[0, number, 4] = 40
        table[0, number, 5:] = -40
        table[0, number, 5 + int(label)] = 40
    rebuilt, first = [], 0
    for height, width in shapes(grid):
        count = height * width * grid.per_cell
        part = table[:, first : first + count].reshape(1, height, width, -1)
        rebuilt.append(part.permute(0, 3, 1, 2))
        first += count
    loss = criterion(settings, grid)(rebuilt, targets)
    assert loss.total.item() == pytest.approx(0, abs=1e-5)

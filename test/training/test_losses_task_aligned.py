# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from loss_cases import SIZE, V2, YOLO, maps, objects, shapes
from test_losses_overlap import overlap

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.loss_settings import LossSettings
from training.losses import task_aligned
from training.losses.assignment import match
from training.losses.criterion import criterion
from training.losses.predictions import read_predictions
from training.losses.task_aligned import align


def align_slowly(rows, objects, settings: LossSettings, grid: AnchorGrid):
    """The paper's words, one object and one row after the other."""
    wanted: dict[tuple[int, int], list] = {}
    for number, (image, label, *box) in enumerate(objects.double().tolist()):
        image, label = int(image), int(label)
        candidates, place = [], 0
        for level, (height, width) in enumerate(shapes(grid)):
            stride = grid.strides[level]
            for y in range(height):
                for x in range(width):
                    middle = (x + 0.5) * stride, (y + 0.5) * stride
                    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                    sides = (max(stride, b - a) for a, b in zip(box[:2], box[2:], strict=True))
                    away = (abs(a - b) for a, b in zip(middle, centre, strict=True))
                    inside = all(d <= side / 2 for d, side in zip(away, sides, strict=True))
                    for _ in range(grid.per_cell):
                        if inside:
                            logits = rows.logits[image, place]
                            classes = (
                                logits[5:].softmax(0) if grid.softmax else logits[5:].sigmoid()
                            )
                            score = (logits[4].sigmoid() * classes[label]).item()
                            shared, union = overlap(rows.boxes[image, place].tolist(), box)
                            fit = shared / union
                            metric = score**settings.alpha * fit**settings.beta
                            candidates.append((metric, fit, place))
                        place += 1
        for metric, fit, place in sorted(candidates, reverse=True)[: settings.top_k]:
            wanted.setdefault((image, place), []).append((fit, metric, number))
    answers = {}
    for (_, place), wishes in wanted.items():
        fit, metric, number = max(wishes)
        answers[number, place] = (metric, fit)
    quality = {}
    for (number, place), (metric, _) in answers.items():
        own = [pair for (n, _), pair in answers.items() if n == number]
        top, widest = max(m for m, _ in own), max(f for _, f in own)
        quality[number, place] = metric / top * widest if top else 0
    return quality


@pytest.mark.parametrize("grid", [YOLO, V2])
@pytest.mark.parametrize("table", [1, 2**18])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_alignment_is_the_slow_definition(grid, table, count, monkeypatch):
    monkeypatch.setattr(task_aligned, "TABLE", table)
    settings = LossSettings(assignment="task_aligned", top_k=5, alpha=0.5, beta=2)
    rows = read_predictions([m * 0.7 for m in maps(grid, 2, seed=count)], grid)
    targets = objects(2, count, seed=count).objects
    number, row, quality = align(rows, targets, settings, grid.softmax)
    found = dict(zip(zip(number.tolist(), row.tolist(), strict=True), quality, strict=True))
    expected = align_slowly(rows, targets, settings, grid)
    assert set(found) == set(expected)
    assert len(found) >= count
    for pair, value in expected.items():
        assert found[pair].item() == pytest.approx(value, rel=1e-4, abs=1e-7)


def test_an_object_smaller_than_a_cell_has_responsible_predictions():
    rows = read_predictions(maps(YOLO, 1, seed=0), YOLO)
    tiny = torch.tensor([[0.0, 1, 17, 17, 19, 19]])
    number, _, quality = align(rows, tiny, LossSettings(assignment="task_aligned"), False)
    assert len(number) > 0
    assert quality.max() > 0


def test_the_better_prediction_has_the_higher_objectness_target_and_weight():
    settings = LossSettings(assignment="task_aligned")
    logits = [torch.zeros(1, 24, h, w) for h, w in shapes(YOLO)]
    target = torch.tensor([[0.0, 1, 9, 33.5, 71, 78.5]])  # 62 x 45 as an anchor of stride 16
    pairs = match(read_predictions(logits, YOLO), Targets.of(target), settings, YOLO)
    best = pairs.sure.argmax()
    first = 3 * shapes(YOLO)[0][0] * shapes(YOLO)[0][1]
    assert pairs.row[best] == first + 3 * (3 * (SIZE[1] // 16) + 2) + 1
    assert pairs.sure[best].item() == pytest.approx(1, abs=1e-4)
    assert (pairs.weight == pairs.sure).all()
    assert pairs.sure.min() < 0.5


def test_slopes_do_not_flow_through_the_assignment():
    settings = LossSettings(assignment="task_aligned", ignore_iou=1)
    targets = objects(1, 3, seed=1)
    inputs = [m.requires_grad_() for m in maps(YOLO, 1, seed=2)]
    loss = criterion(settings, YOLO)(inputs, targets)
    loss.objectness.backward()
    for m in inputs:
        gradient = m.grad.unflatten(1, (3, -1))
        assert gradient[:, :, :4].abs().max() == gradient[:, :, 5:].abs().max() == 0

# SPDX-License-Identifier: Apache-2.0
"""Ignored objects, classes without labels, and a teacher's confidence."""

from __future__ import annotations

import pytest
import torch
from loss_cases import CLASSES, KINDS, YOLO, maps, objects
from test_losses_overlap import overlap

from training.data.batch import Targets
from training.detectors.anchor_grid import flatten
from training.detectors.loss_settings import LossSettings
from training.losses import ignoring
from training.losses.assignment import match
from training.losses.criterion import criterion
from training.losses.ignoring import ignored_rows
from training.losses.overlap import share_inside
from training.losses.predictions import read_predictions

NOTHING = Targets.of(torch.zeros(0, 6))
CROWD = torch.tensor([[1.0, 20, 10, 120, 80]])


def slopes(kind: str, targets: Targets, images: int = 2, seed: int = 3) -> torch.Tensor:
    settings, grid = KINDS[kind]
    inputs = [m.requires_grad_() for m in maps(grid, images, seed)]
    criterion(settings, grid)(inputs, targets).total.backward()
    return flatten([m.grad for m in inputs], grid.per_cell)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def rows_of(kind: str, images: int = 2, seed: int = 3):
    grid = KINDS[kind][1]
    return read_predictions(maps(grid, images, seed), grid)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_in_an_ignored_box_have_no_objectness_loss(kind):
    settings, _ = KINDS[kind]
    gradient = slopes(kind, NOTHING._replace(ignored=CROWD))
    rows = rows_of(kind)
    forgiven = share_inside(rows.boxes[1], CROWD[0, 1:]) >= settings.ignore_iou
    assert forgiven.any() and not forgiven.all()
    assert (gradient[1, forgiven] == 0).all()
    assert (gradient[1, ~forgiven, 4] > 0).all(), "the others are background"
    assert (gradient[0, :, 4] > 0).all(), "the crowd is in the other image"


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_an_ignored_box_is_still_trained(kind):
    targets = objects(2, 5, seed=4, grid=KINDS[kind][1])
    everything = torch.tensor([[0.0, -999, -999, 999, 999], [1, -999, -999, 999, 999]])
    plain, within = slopes(kind, targets), slopes(kind, targets._replace(ignored=everything))
    pairs = match(rows_of(kind), targets, *KINDS[kind])
    same(within[pairs.image, pairs.row], plain[pairs.image, pairs.row])


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_labels_costs_nothing_in_its_image(kind):
    targets = objects(2, 6, seed=5, grid=KINDS[kind][1])
    missing = torch.tensor([[1, 2, 0]])
    plain = slopes(kind, targets)
    partial = slopes(kind, targets._replace(unlabelled=missing))
    same(partial[0], plain[0])
    pairs = match(rows_of(kind), targets, *KINDS[kind])
    answering = torch.zeros(plain.shape[:2], dtype=torch.bool)
    answering[pairs.image, pairs.row] = True
    others = torch.ones_like(answering)
    others[pairs.image, pairs.row] = targets.objects[pairs.target, 1] != 2
    assert (answering & others)[1].any()
    assert (partial[1, others[1], 7] == 0).all()
    assert plain[1, (answering & others)[1], 7].abs().min() > 0
    # background rows that take themselves for the missing class
    rows = rows_of(kind)
    missed = (rows.logits[1, :, 5:].argmax(-1) == 2) & ~answering[1]
    assert (partial[1, missed] == 0).all()
    rest = ~missed & ~answering[1]
    same(partial[1, rest], plain[1, rest])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", range(4))
def test_a_class_without_labels_costs_nothing_in_its_part_of_a_mosaic(kind, part):
    targets, seam = objects(2, 12, seed=5, grid=KINDS[kind][1]), torch.tensor([[1.0, 90, 50]])
    missing = torch.tensor([[1, 2, part]])
    plain = slopes(kind, targets)
    everywhere = slopes(kind, targets._replace(unlabelled=torch.tensor([[1, 2, 0]])))
    partial = slopes(kind, targets._replace(unlabelled=missing, seams=seam))
    same(partial[0], plain[0])

    def inside(boxes):
        right, low = ((boxes[:, :2] + boxes[:, 2:]) / 2 >= seam[0, 1:]).T
        return (right == bool(part % 2)) & (low == bool(part // 2))

    rows = rows_of(kind)
    pairs = match(rows, targets, *KINDS[kind])
    background = torch.ones(plain.shape[:2], dtype=torch.bool)
    background[pairs.image, pairs.row] = False
    within = background[1] & inside(rows.boxes[1])
    without = background[1] & ~inside(rows.boxes[1])
    same(partial[1, within], everywhere[1, within])
    same(partial[1, without], plain[1, without])
    assert not everywhere[1, without].equal(plain[1, without]), "the others had no loss"
    # A responsible prediction is where its object is.
    for own, expected in ((True, everywhere), (False, plain)):
        chosen = (pairs.image == 1) & (inside(targets.objects[pairs.target, 2:]) == own)
        others = ~torch.isin(pairs.row, pairs.row[(pairs.image == 1) & ~chosen])
        row = pairs.row[chosen & others]
        same(partial[1, row], expected[1, row])


def test_a_prediction_still_learns_the_class_of_its_object():
    # a teacher has drawn an object of a class that people have not labelled
    targets = objects(1, 1, seed=6)
    label = int(targets.objects[0, 1])
    every = torch.tensor([[0, c, 0] for c in range(CLASSES)])
    for kind in ("giou", "region"):
        drawn = objects(1, 1, seed=6, grid=KINDS[kind][1])._replace(unlabelled=every)
        gradient = slopes(kind, drawn, images=1)
        pairs = match(rows_of(kind, images=1), drawn, *KINDS[kind])
        own = gradient[0, pairs.row[0], 5:]
        # the softmax of the only class that is left is 1 already
        assert (own != 0).tolist() == [kind == "giou" and c == label for c in range(CLASSES)]
        assert own.isfinite().all()


def test_labels_are_smoothed_over_the_classes_that_count():
    settings = LossSettings(kind="region", label_smoothing=0.3)
    targets = objects(1, 1, seed=6, grid=KINDS["region"][1])
    label = int(targets.objects[0, 1])
    other, missing = ((label + n) % CLASSES for n in (1, 2))
    grid = KINDS["region"][1]
    inputs = [m.requires_grad_() for m in maps(grid, 1, seed=0)]
    partial = targets._replace(unlabelled=torch.tensor([[0, missing, 0]]))
    criterion(settings, grid)(inputs, partial).classes.backward()
    gradient = flatten([m.grad for m in inputs], grid.per_cell)[0, :, 5:]
    row = gradient.abs().sum(1).argmax()
    logits = flatten(inputs, grid.per_cell)[0, row, 5:]
    left = logits[[label, other]].softmax(0)
    assert gradient[row, label].item() == pytest.approx(left[0].item() - 0.85)
    assert gradient[row, other].item() == pytest.approx(left[1].item() - 0.15)
    assert gradient[row, missing].item() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_an_object_of_confidence_c_is_its_expectation(kind):
    """Box and class c times; objectness as c times an object and 1 - c times background."""
    settings, grid = KINDS[kind]
    targets = objects(2, 5, seed=7, grid=grid)
    inputs, loss = maps(grid, 2, seed=8), criterion(*KINDS[kind])
    sure = loss(inputs, targets)
    drawn = loss(inputs, targets._replace(confidence=torch.full((5,), 0.3)))
    assert drawn.box.item() == pytest.approx(0.3 * sure.box.item())
    assert drawn.classes.item() == pytest.approx(0.3 * sure.classes.item())
    if kind in ("region", "task_aligned"):  # squared, and no target of 1
        return
    rows = read_predictions(inputs, grid)
    pairs = match(rows, targets, settings, grid)
    chosen = rows.logits[pairs.image, pairs.row, 4]
    # the target c instead of 1 adds (1 - c) times the logit to the cross-entropy
    added = 0.7 * chosen.sum().item() / 2
    assert drawn.objectness.item() - sure.objectness.item() == pytest.approx(added, rel=1e-5)


def test_the_more_confident_of_two_objects_sets_the_objectness_target():
    pair = torch.tensor([[0.0, 0, 10, 10, 70, 54], [0, 1, 11, 10, 71, 54]])
    inputs = [m.requires_grad_() for m in maps(YOLO, 1, seed=0)]
    targets = Targets.of(pair)._replace(confidence=torch.tensor([0.9, 0.4]))
    criterion(LossSettings(), YOLO)(inputs, targets).objectness.backward()
    pairs = match(read_predictions(inputs, YOLO), targets, LossSettings(), YOLO)
    assert pairs.row[0] == pairs.row[1]
    logits = flatten(inputs, 3)[0, pairs.row[0]]
    gradient = flatten([m.grad for m in inputs], 3)[0, pairs.row[0], 4]
    assert gradient.item() == pytest.approx(logits[4].sigmoid().item() - 0.9)


def test_ignored_rows_are_the_slow_definition(monkeypatch):
    settings = LossSettings(ignore_iou=0.4, ignore_score=0.6)
    targets = objects(3, 9, seed=9)._replace(
        ignored=CROWD,
        unlabelled=torch.tensor([[2, 0, 0], [0, 1, 2]]),
        seams=torch.tensor([[0.0, 70, 40]]),
    )
    rows = read_predictions(maps(YOLO, 3, seed=10), YOLO)
    expected = []
    for image in range(3):
        mine = targets.objects[targets.objects[:, 0] == image, 2:].tolist()
        scores = rows.logits[image, :, 5:].sigmoid().tolist()
        for box, classes in zip(rows.boxes[image].tolist(), scores, strict=True):
            pairs = [overlap(box, truth) for truth in mine]
            near = any(inside / union >= 0.4 for inside, union in pairs) and max(classes) >= 0.6
            area = (box[2] - box[0]) * (box[3] - box[1])
            lost = image == 1 and overlap(box, CROWD[0, 1:].tolist())[0] / area >= 0.4
            left, low = box[0] + box[2] < 140, box[1] + box[3] >= 80
            unknown = image == 2 and max(classes) == classes[0]
            unknown |= image == 0 and left and low and max(classes) == classes[1]
            expected.append(near or lost or unknown)
    assert 0 < sum(expected) < len(expected)
    for table in (1, 2**18):
        monkeypatch.setattr(ignoring, "TABLE", table)
        mask = ignored_rows(rows, targets, settings, softmax=False)
        assert mask.flatten().tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_the_mean_of_its_images(kind):
    """So several processes with equal shares of a batch average to the loss of one."""
    settings, grid = KINDS[kind]
    targets = objects(4, 9, seed=11, grid=grid)._replace(
        confidence=torch.linspace(0.2, 1, 9),
        ignored=CROWD,
        unlabelled=torch.tensor([[3, 1, 0], [1, 0, 3], [1, 2, 0]]),
        seams=torch.tensor([[1.0, 60, 50]]),
    )
    inputs, loss = maps(grid, 4, seed=12), criterion(settings, grid)
    parts = []
    for image in range(4):
        tables = (targets.objects, targets.ignored, targets.unlabelled, targets.seams)
        mine = [table[table[:, 0] == image] for table in tables]
        for table in mine:
            table[:, 0] = 0
        sure = targets.confidence[targets.objects[:, 0] == image]
        part = Targets(mine[0], sure, *mine[1:])
        parts.append(torch.stack(loss([m[image : image + 1] for m in inputs], part, 0)))
    torch.testing.assert_close(
        torch.stack(loss(inputs, targets, 0)), torch.stack(parts).mean(0), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_maps_have_a_float32_loss(kind):
    settings, grid = KINDS[kind]
    targets = objects(2, 5, seed=13, grid=grid)
    half = [m.to(torch.bfloat16).requires_grad_() for m in maps(grid, 2, seed=14)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(settings, grid)(half, targets)
    plain = criterion(settings, grid)([m.detach().float() for m in half], targets)
    assert loss.total.dtype == torch.float32
    assert torch.stack(loss).equal(torch.stack(plain))
    loss.total.backward()
    assert all(m.grad.isfinite().all() for m in half)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_objects_has_only_a_background_loss(kind):
    gradient = slopes(kind, NOTHING)
    assert (gradient[..., 4] > 0).all()
    assert gradient[..., :4].abs().max() == gradient[..., 5:].abs().max() == 0


def test_a_rescored_target_is_the_overlap_times_the_confidence():
    """With region's rescore, of every object that a prediction is responsible for."""
    settings, grid = KINDS["region"]
    certain = objects(2, 5, seed=4, grid=grid)
    confidence = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.125])
    rows = rows_of("region")
    pairs = match(rows, certain._replace(confidence=confidence), settings, grid)
    assert sorted(pairs.target.tolist()) == list(range(5))
    for number, image, row, sure in zip(
        *(part.tolist() for part in (pairs.target, pairs.image, pairs.row, pairs.sure)), strict=True
    ):
        inside, union = overlap(rows.boxes[image, row].tolist(), certain.objects[number, 2:])
        expected = float(inside / union) * confidence[number].item()
        assert sure == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert pairs.weight.tolist() == confidence[pairs.target].tolist()

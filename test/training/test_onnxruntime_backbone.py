# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from drawn import CLASSES, enliven
from kinds import KINDS
from resumed import go_on
from small_detector import SMALLEST_YOLO_RET
from torch import nn

from training.detectors.registry import build
from training.loop.freezing import set_phase
from training.loop.onnxruntime_backbone import OnnxRuntimeBackbone, features_from, runs_outside
from training.loop.recipe import Phase, Recipe
from training.loop.trainer import Trainer
from training.quantisation.quantisation_aware import prepare

ALL = 1000  # more blocks than any backbone has


def frozen(name: str, **changes) -> nn.Module:
    """A detector with a frozen backbone whose norms are not those of a fresh one."""
    detector = build(name, num_classes=2, **changes).to(memory_format=torch.channels_last)
    enliven(detector)
    set_phase(detector, Phase(1, (64,), frozen_blocks=ALL), "none")
    return detector


def pictures(count: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


def as_floats(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(
    "changes", [{"backbone": "mobilenet_v2_050"}, {"backbone": "efficientnet_lite0"}]
)
def test_features_are_those_of_the_frozen_module(changes):
    backbone = frozen("yolo_ret_m075", **changes).backbone
    runtime = OnnxRuntimeBackbone(backbone, threads=1)
    for images in (pictures(), pictures(3, 96, 64)):
        expected = backbone(as_floats(images))
        for mine, theirs in zip(runtime(images), expected, strict=True):
            scale = theirs.abs().max()
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=0, atol=1e-4)
            assert mine.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_every_detector_takes_features_from_the_runtime(name):
    detector, images = frozen(name).eval(), pictures(1)
    assert runs_outside(detector)
    expected = detector(as_floats(images))
    with features_from(OnnxRuntimeBackbone(detector.backbone, 1), detector):
        found = detector(images)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_the_module_is_itself_again_afterwards():
    detector = frozen("yolo_fastest")
    names, images = set(detector.state_dict()), as_floats(pictures())
    before = detector.backbone(images)
    with features_from(OnnxRuntimeBackbone(detector.backbone, 1), detector):
        assert set(detector.state_dict()) == names
        pixels = images.clone().requires_grad_()
        sum(map_.sum() for map_ in detector(pixels)).backward()
    assert pixels.grad.any(), "an attack needs the gradient of the pixels"
    after = detector.backbone(images)
    assert all(a.equal(b) for a, b in zip(after, before, strict=True))
    with pytest.raises(RuntimeError):
        detector.backbone(pictures())


def test_only_a_completely_frozen_backbone_runs_in_onnxruntime():
    detector = frozen("yolo_fastest")
    assert runs_outside(detector)
    set_phase(detector, Phase(1, (64,), frozen_blocks=5), "all")
    assert not runs_outside(detector)
    set_phase(detector, Phase(1, (64,), frozen_blocks=ALL), "none")
    prepare(detector)
    assert not runs_outside(detector), "the runtime would not round"


@pytest.mark.parametrize("blocks", [6, ALL])
def test_nothing_is_kept_for_a_backward_pass_through_frozen_layers(blocks):
    detector = build("yolo_ret_m075", num_classes=2)
    images, saved = as_floats(pictures(2, 64, 64)), []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    def bytes_saved() -> int:
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            maps = detector(images)
        sum(map_.sum() for map_ in maps).backward()
        return sum(t.numel() * t.element_size() for t in saved)

    set_phase(detector, Phase(1, (64,)), "none")
    everything = bytes_saved()
    detector.zero_grad(set_to_none=True)
    set_phase(detector, Phase(1, (64,), frozen_blocks=blocks), "none")
    rest = bytes_saved()
    widest = max(t.shape[-1] for t in saved if t.ndim == 4 and t.shape[0] == len(images))
    frozen_names = {n for n, p in detector.named_parameters() if not p.requires_grad}
    assert frozen_names and all(
        (p.grad is None) == (name in frozen_names) for name, p in detector.named_parameters()
    )
    assert widest <= 8, "what is trained sees maps of stride 8 and more"
    assert rest < 0.7 * everything


def trainer(shapes, attacks: float, **changes) -> Trainer:
    frozen_phase = {"epochs": 1, "sizes": 64, "frozen_blocks": ALL, "self_adversarial": attacks}
    recipe = {
        "detector": SMALLEST_YOLO_RET,
        "phases": [frozen_phase, {"epochs": 1, "sizes": 64}],
        "batch_size": 8,
        "optimizer": {"name": "sgd", "rate": 0.01},
        "evaluation": {"size": 160},
        **changes,
    }
    return Trainer(Recipe.from_dict(recipe), CLASSES, shapes, workers=0)


def test_a_run_with_a_frozen_backbone_can_be_interrupted(shapes):
    whole, first, second = (trainer(shapes, 0.5, precision="bf16-mixed") for _ in range(3))
    go_on(whole, 3)
    go_on(first, 1)
    second.restore(first.state())
    go_on(second, 3)
    for name, value in whole.state()["model"].items():
        assert second.model.state_dict()[name].equal(value), name


def test_features_are_of_restored_weights(shapes):
    run, other = trainer(shapes, 0), trainer(shapes, 0, seed=1)
    go_on(run, 1)
    run.restore(other.state() | {"recipe": run.recipe.to_dict()})
    go_on(run, 1)
    images = pictures()
    expected = run.model.backbone(as_floats(images))
    for mine, theirs in zip(run._frozen(images), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_training_is_the_same_with_and_without_onnxruntime(shapes, monkeypatch):
    outside, inside = (trainer(shapes, 0) for _ in range(2))
    go_on(outside, 2)
    assert outside._frozen is not None
    monkeypatch.setattr("training.loop.trainer.runs_outside", lambda detector: False)
    go_on(inside, 2)
    assert inside._frozen is None
    assert outside.sums.loss == pytest.approx(inside.sums.loss, rel=1e-3)
    go_on(outside, 3)
    assert outside._frozen is None, "the second phase trains the backbone"

# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_detector import SMALLEST_YOLO_RET

from training import average as average_module
from training.average import averaged
from training.deployment.model_card import card_of
from training.deployment.onnx_export import export
from training.detectors.variant import Variant
from training.loop.checkpoint import load_detector, save_checkpoint
from training.quantisation.quantisation_aware import prepare
from training.weights.backbone_file import read_backbone
from training.weights.origin import read_origin

DETECTOR = Variant.from_settings(SMALLEST_YOLO_RET)
CLASSES = ["a", "b"]


def trained(path: Path, seed: int, detector: Variant = DETECTOR, classes=tuple(CLASSES)) -> str:
    """A checkpoint whose values, also those of its norms, are all different."""
    torch.manual_seed(seed)
    network = detector.build(len(classes))
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.2)
    content = {"detector": detector.to_settings(), "classes": list(classes)}
    save_checkpoint(path, {**content, "average": network.state_dict()})
    return str(path)


def answers(path: str | Path) -> torch.Tensor:
    network, _ = load_detector(Path(path))
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        return torch.cat([map_.flatten() for map_ in network(images)])


def written(path: Path, weights: list[str]) -> Path:
    save_checkpoint(path, averaged(weights))
    return path


def test_weights_averaged_with_themselves_compute_the_same(tmp_path):
    """As a checkpoint, and as the file that was exported of it."""
    one = trained(tmp_path / "one.pt", 1)
    network, content = load_detector(Path(one))
    export(network, tmp_path / "one.onnx", card_of("one", network, content, {}, {}, 160))
    mean = written(tmp_path / "mean.pt", [one, str(tmp_path / "one.onnx"), one])
    torch.testing.assert_close(answers(mean), answers(one), rtol=2e-3, atol=2e-3)
    again = written(tmp_path / "again.pt", [str(mean), str(mean)])
    torch.testing.assert_close(answers(again), answers(mean))


def test_kernels_and_shifts_are_the_mean_of_the_folded_ones(tmp_path):
    weights = [trained(tmp_path / f"{seed}.pt", seed) for seed in (1, 2, 3)]
    units = [load_detector(Path(path))[0].backbone.stem.folded() for path in weights]
    stem = load_detector(written(tmp_path / "mean.pt", weights))[0].backbone.stem
    for found, parts in zip(stem.folded(), zip(*units, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(parts).mean(0))


def test_a_training_takes_the_mean_for_folded(tmp_path):
    weights = [trained(tmp_path / f"{seed}.pt", seed) for seed in (1, 2)]
    mean = written(tmp_path / "mean.pt", weights)
    assert read_origin(str(mean), DETECTOR).folded and read_backbone(mean).folded
    assert not read_origin(weights[0], DETECTOR).folded
    assert not read_backbone(Path(weights[0])).folded


def test_weights_trained_for_int8_count_without_their_roundings(tmp_path):
    """As a mean, as a start and as a teacher: the rounding is of one graph alone."""
    one = trained(tmp_path / "one.pt", 1)
    network, content = load_detector(Path(one))
    prepare(network)
    content |= {"average": network.state_dict(), "recipe": {"quantisation_aware": True}}
    save_checkpoint(tmp_path / "int8.pt", content)
    mean = written(tmp_path / "mean.pt", [one, str(tmp_path / "int8.pt")])
    torch.testing.assert_close(answers(mean), answers(one), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["one.pt"], "an average needs two or more weights"),
        (["one.pt", "other.pt"], r"one.pt is a .* for a, b; .*other.pt is a .* for b, a"),
        (["one.pt", "nano.pt"], "nano.pt is a yolo_fastest for a, b"),
        (["one.pt", "none.pt"], "none.pt cannot be read: No such file"),
        (["one.pt", "no_model"], "no_model"),
    ],
)
def test_what_has_no_mean_is_one_sentence(tmp_path, monkeypatch, capsys, weights, message):
    monkeypatch.chdir(tmp_path)
    trained(Path("one.pt"), 1)
    trained(Path("other.pt"), 1, classes=("b", "a"))
    trained(Path("nano.pt"), 1, Variant.from_settings("yolo_fastest"))
    monkeypatch.setattr(sys, "argv", ["average", *weights, "--out", "mean.pt"])
    with pytest.raises(SystemExit, match=f"^training.average: .*{message}"):
        average_module.main()
    assert not Path("mean.pt").exists()


@pytest.mark.parametrize("name", ["mean", "mean.onnx", "mean.pth"])
def test_the_mean_has_the_ending_that_all_commands_ask_for(tmp_path, monkeypatch, name):
    """They take another one for the name of a model, or for an ONNX file."""
    weights, out = trained(tmp_path / "one.pt", 1), tmp_path / name
    monkeypatch.setattr(sys, "argv", ["average", weights, weights, "--out", str(out)])
    with pytest.raises(SystemExit, match="must end in .pt"):
        average_module.main()
    assert not out.exists()

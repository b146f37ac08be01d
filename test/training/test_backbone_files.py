# SPDX-License-Identifier: Apache-2.0
"""Weights of backbones from other packages: layers in network order, Keras; padding; parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.variant import Variant
from training.loop.checkpoint import save_checkpoint
from training.loop.recipe import Recipe
from training.loop.trainer import Trainer
from training.weights.backbone_file import (
    BackboneWeights,
    fill_backbone,
    read_backbone,
    transferred,
    write_backbone,
)
from training.weights.imagenet import read_source
from training.weights.starting import start_backbone

Arrays = dict[str, np.ndarray]
# Channels, repeats and first stride of MobileNetV2 x0.5 (Sandler et al., table 2).
STAGES = [(8, 1, 1), (16, 2, 2), (16, 3, 2), (32, 4, 2), (48, 3, 1), (80, 3, 2), (160, 1, 1)]
RELU6, LINEAR = 3, 0


def layers() -> list[tuple[int, int, int, int, int, int]]:
    """Inputs, outputs, kernel, stride, activation and depthwise of every layer, in order."""
    found = [(3, 16, 3, 2, RELU6, 0)]
    channels = 16
    for outputs, repeats, first in STAGES:
        for repeat in range(repeats):
            hidden = channels if len(found) == 1 else 6 * channels
            if hidden != channels:
                found.append((channels, hidden, 1, 1, RELU6, 0))
            found.append((hidden, hidden, 3, 1 if repeat else first, RELU6, 1))
            found.append((hidden, outputs, 1, 1, LINEAR, 0))
            channels = outputs
    return [*found, (channels, 1280, 1, 1, RELU6, 0)]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """An archive of random layers, and a classifier after them."""
    rng = np.random.default_rng(0)
    found: Arrays = {}
    for n, (inputs, outputs, kernel, stride, act, depthwise) in enumerate(layers()):
        fan = kernel**2 * (1 if depthwise else inputs)
        shape = (outputs, 1 if depthwise else inputs, kernel, kernel)
        found[f"{n:02}.weight"] = rng.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)
        found[f"{n:02}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        found[f"{n:02}.opts"] = np.array([stride, 1, act, depthwise])
    found["52.weight"] = np.zeros((10, 1280, 1, 1), np.float32)
    return found


def by_hand(arrays: Arrays, images: torch.Tensor) -> list[torch.Tensor]:
    """The maps of strides 4 to 32 of the archive: TensorFlow's padding, input rgb / 127.5 - 1.

    Outside the image is black, as everywhere in this package.
    """
    x, maps, n, outside = images * 2 - 1, {}, 0, -1.0

    def run(x: torch.Tensor, n: int, outside: float = 0.0) -> torch.Tensor:
        weight, bias, (stride, _, act, depthwise) = (
            torch.from_numpy(arrays[f"{n:02}.{part}"]) for part in ("weight", "bias", "opts")
        )
        if weight.shape[-1] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1), value=outside)
        groups = x.shape[1] if depthwise else 1
        y = F.conv2d(x, weight, bias, int(stride), groups=groups)
        return y.clamp(0, 6) if act == RELU6 else y

    x, n, reached = run(x, 0, outside), 1, 2
    for stage, (_, repeats, first) in enumerate(STAGES):
        for repeat in range(repeats):
            entered = x
            for _ in range(2 if stage == 0 else 3):
                x, n = run(x, n), n + 1
            if repeat:
                x = x + entered
        reached *= first
        maps[reached] = x
    maps[32] = run(x, n)
    return [maps[stride] for stride in (4, 8, 16, 32)]


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)
    return path


@torch.no_grad()
def test_layers_in_network_order_compute_what_the_archive_says(arrays, tmp_path):
    network, folded = read_source("mobilenet_v2_050", save(tmp_path / "a.npz", arrays))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(network.eval()(images), by_hand(arrays, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert folded
    even = MobileNetV2(0.5, complete=True).eval()
    even.load_state_dict(network.state_dict())
    wrong = even(images)[2] - by_hand(arrays, images)[2]
    assert wrong.var() > 0.3 * by_hand(arrays, images)[2].var(), "what the padding is for"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("17.bias"), "a.npz is of another network: .*17.bias"),
        (
            lambda a: a.update({"05.weight": a["05.weight"][:12]}),
            r"05.weight has shape \(12, 48, 1, 1\), not \(16, 48, 1, 1\)",
        ),
        (
            lambda a: a.update({"40.opts": np.array([1, 2, 3, 1])}),
            r"40.opts .* \[1, 2, 3, 1\], not",
        ),
        (lambda a: a.update({"00.opts": np.array(None)}), "a.npz"),
        (lambda a: a.clear(), "a.npz is of another network"),
    ],
)
def test_another_archive_is_refused(
    arrays: Arrays, tmp_path: Path, change: Callable[[Arrays], None], message: str
):
    other = dict(arrays)
    change(other)
    with pytest.raises(ValueError, match=message):
        read_source("mobilenet_v2_050", save(tmp_path / "a.npz", other))


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    for content in (b"", b"nothing", b"PK\x03\x04nothing"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz"):
            read_source("mobilenet_v2_050", path)
    with pytest.raises(ValueError, match="channel attention"):
        read_source("efficientnet_b0", path)


def keras_names() -> list[tuple[str, str]]:
    """The convolution and the norm of every layer, as Keras's MobileNetV2 has them."""
    names = [("Conv1", "bn_Conv1")]
    for block in range(17):
        prefix = f"block_{block}" if block else "expanded_conv"
        parts = ("expand", "depthwise", "project") if block else ("depthwise", "project")
        names += [(f"{prefix}_{part}", f"{prefix}_{part}_BN") for part in parts]
    return [*names, ("Conv_1", "Conv_1_bn")]


@torch.no_grad()
def test_a_keras_file_computes_the_same(arrays, tmp_path):
    """The archive's layers with norms, laid out as Keras does; epsilon 1e-3."""
    h5py = pytest.importorskip("h5py")
    rng, path = np.random.default_rng(1), tmp_path / "keras.h5"
    with h5py.File(path, "w") as file:
        for n, (conv, norm) in enumerate(keras_names()):
            weight, bias = arrays[f"{n:02}.weight"], arrays[f"{n:02}.bias"]
            mean, variance = rng.normal(0, 1, len(bias)), rng.uniform(0.5, 2, len(bias))
            deviation = np.sqrt(variance + 1e-3)
            depthwise = arrays[f"{n:02}.opts"][3]
            order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
            kernel = (weight * deviation[:, None, None, None]).transpose(order)
            name = "depthwise_kernel:0" if depthwise else "kernel:0"
            file[f"{conv}/{conv}/{name}"] = kernel.astype(np.float32)
            values = {"gamma": np.ones(len(bias)), "beta": bias + mean}
            # gamma is 1, so that beta - mean / deviation * deviation is the bias
            values |= {"moving_mean": mean * deviation, "moving_variance": variance}
            for key, value in values.items():
                file[f"{norm}/{norm}/{key}:0"] = value.astype(np.float32)
    network, folded = read_source("mobilenet_v2_050", path)
    assert not folded
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(network.eval()(images), by_hand(arrays, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"keras\.h5 is not Keras's mobilenet_v2_075: Conv1"):
        read_source("mobilenet_v2_075", path)
    (tmp_path / "b.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.h5 is no \.h5 that can be read"):
        read_source("mobilenet_v2_075", tmp_path / "b.h5")


TINY = "{name: yolo_ret_m075, backbone: {width: 0.5, blocks: 9}, uneven: true}"


def weights_of(text: str, name: str = "other") -> BackboneWeights:
    backbone = Variant.parse(text).build(2).backbone
    return BackboneWeights(name, "uneven: true" in text, False, backbone.state_dict())


@pytest.mark.parametrize("place", range(0, 2200, 120))
def test_a_compressed_archive_with_a_damaged_byte_ends_in_a_sentence(arrays, tmp_path, place):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **{"00.weight": arrays["00.weight"]})
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is "):
        read_source("mobilenet_v2_050", path)


def test_a_keras_file_with_a_damaged_tree_ends_in_a_sentence(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["model/layer/kernel:0"] = np.zeros((3, 3))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"TREE", b"LEAF"))
    with pytest.raises(ValueError, match=r"a\.h5 is no \.h5 that can be read"):
        read_source("mobilenet_v2_050", path)


def test_the_first_blocks_can_be_loaded_alone(tmp_path):
    path = tmp_path / "backbone.pt"
    write_backbone(path, weights_of(TINY))
    weights = read_backbone(path)
    backbone = Variant.parse(TINY).build(2).backbone
    fresh = {name: value.clone() for name, value in backbone.state_dict().items()}
    fill_backbone(backbone, weights, path, 4)
    for name, value in backbone.state_dict().items():
        _, number, *_ = name.split(".")
        loaded = name.startswith("stem") or int(number) < 4
        assert value.equal((weights.state if loaded else fresh)[name]), name
    assert 0 < transferred(backbone, 0) < transferred(backbone, 4) < transferred(backbone)
    assert transferred(backbone, 9) == transferred(backbone)
    with pytest.raises(ValueError, match="the backbone has 9 blocks: 10 of them"):
        fill_backbone(backbone, weights, path, 10)


def test_a_truncated_backbone_begins_with_the_weights_of_a_longer_one(tmp_path):
    path, whole = tmp_path / "backbone.pt", TINY.replace(", blocks: 9", "")
    longer, short = weights_of(whole), Variant.parse(TINY).build(3).backbone
    fill_backbone(short, longer, path)
    for name, value in short.state_dict().items():
        assert value.equal(longer.state[name]), name
    rest = Variant.parse(whole).build(3).backbone
    with pytest.raises(ValueError, match=r"of another network, other: they have no blocks\.9"):
        fill_backbone(rest, weights_of(TINY), path)
    fill_backbone(rest, weights_of(TINY), path, 9)


@pytest.mark.parametrize("uneven, option", [(True, "true"), (False, "false")])
def test_weights_of_another_padding_are_refused(tmp_path, uneven, option):
    texts = (TINY, TINY.replace("uneven: true", "uneven: false"))
    theirs, ours = texts if uneven else texts[::-1]
    with pytest.raises(ValueError, match=f"padding: add --set detector.uneven={option}"):
        fill_backbone(Variant.parse(ours).build(2).backbone, weights_of(theirs), tmp_path)


def test_a_checkpoint_gives_its_backbone_and_other_files_are_refused(tmp_path):
    path, detector = tmp_path / "last.pt", Variant.parse(TINY)
    model = detector.build(3)
    content = {"detector": detector.to_settings(), "classes": ["a", "b", "c"]}
    save_checkpoint(path, content | {"average": model.state_dict()})
    other = detector.build(2)
    fill_backbone(other.backbone, read_backbone(path), path)
    for name, value in model.backbone.state_dict().items():
        assert other.backbone.state_dict()[name].equal(value)
    with pytest.raises(ValueError, match="are of another network"):
        fill_backbone(Variant.parse("yolo_nano").build(2).backbone, read_backbone(path), path)
    torch.save(model.backbone.state_dict(), path)
    with pytest.raises(ValueError, match="does not say of which backbone it is and how it pads"):
        read_backbone(path)


@torch.no_grad()
def test_folded_norms_of_a_start_get_statistics_and_change_nothing(arrays, shapes, tmp_path):
    path = tmp_path / "backbone.pt"
    network, folded = read_source("mobilenet_v2_050", save(tmp_path / "a.npz", arrays))
    weights = BackboneWeights("mobilenet_v2_050", True, folded, network.state_dict())
    recipe = Recipe.from_dict({"detector": Variant.parse(TINY).to_settings(), "phases": [
        {"epochs": 1, "sizes": 96}
    ]})  # fmt: skip
    trainer = Trainer(recipe, ("disc", "square"), shapes, workers=0)
    fresh = trainer.model.backbone.blocks[6].project.norm.weight.clone()
    text = start_backbone(trainer, weights, path, 5)
    assert text.startswith(f"Loaded 5 blocks of the backbone of {path}: ")
    backbone = trainer.model.backbone.eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images)[0], network.eval()(images)[0], rtol=1e-3, atol=1e-3)
    assert backbone.blocks[6].project.norm.weight.equal(fresh), "what is not loaded stays"
    assert trainer.average.model.state_dict()["backbone.stem.conv.weight"].equal(
        backbone.stem.conv.weight
    )
    norm = backbone.blocks[3].expand.norm
    assert (norm.running_var - 1).abs().max() > 0.05, "measured"

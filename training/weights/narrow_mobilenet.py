# SPDX-License-Identifier: Apache-2.0
"""Narrow MobileNetV2 x1.0 to a smaller width, repairing every layer by least squares.

Two kinds of channels exist. The residual streams are linear, so a stream is rotated into its
principal axes and the weak ones are dropped. Expanded channels pass ReLU6, so a subset is kept, by
the energy each contributes to its projection. Then, block by block on sample images, the 1x1
convolutions are solved so that the narrow network's maps come as close as they can to the wide
one's; errors of earlier blocks are corrected by later ones, and running statistics are those of the
samples.

    python -m training.weights.narrow_mobilenet --source frozen_inference_graph.pb --images DIR \
        --out backbone.pt
    python -m training.weights.narrow_mobilenet --source mobilenetv2_x1.0.npz --width 0.5 ...

The narrow network pads as the wide one does, and its file says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.image_cache import decode
from training.detectors.blocks import ConvNormAct, InvertedResidual, inverted_residuals, statistics
from training.detectors.mobilenet_v2 import STAGES, MobileNetV2
from training.weights.backbone_file import (
    BackboneWeights,
    fill_backbone,
    pads_unevenly,
    write_backbone,
)
from training.weights.from_tensorflow import load_mobilenet_v2
from training.weights.imagenet import read_source

ROWS = 40_000
RIDGE = 1e-4
SOURCES = (
    "MobileNetV2 x1.0: frozen TensorFlow graph (.pb), .npz, Keras's .h5, or of timm or torchvision"
)


@torch.no_grad()
def narrow(wide: MobileNetV2, slim: MobileNetV2, images: Tensor) -> list[float]:
    """Compute the weights of a narrow network from those of a wide one.

    Args:
        wide: the trained network.
        slim: the narrow network, changed in place.
        images: (N, 3, H, W), RGB in 0..1, that the maps of both are compared on.

    Returns:
        For each block, the share of the variance of the wide output that the narrow one explains.
    """
    wide.eval()
    slim.eval()
    bases = _stream_bases(wide, slim, images)
    wide_blocks, slim_blocks = inverted_residuals(wide.blocks), inverted_residuals(slim.blocks)
    kept = _strongest(wide_blocks[0], wide.stem(images), slim.stem.conv.out_channels)
    kernel, bias = wide.stem.folded()
    _set(slim.stem, kernel[kept], bias[kept], images)

    explained = []
    theirs, ours = wide.stem(images), slim.stem(images)
    for wide_block, slim_block, basis in zip(wide_blocks, slim_blocks, bases, strict=True):
        if isinstance(wide_block.expand, ConvNormAct) and isinstance(
            slim_block.expand, ConvNormAct
        ):
            kept = _strongest(wide_block, theirs, slim_block.expand.conv.out_channels)
            kernel, bias = wide_block.expand.folded()
            target = functional.conv2d(theirs, kernel[kept], bias[kept])
            _set(slim_block.expand, *_solve(ours, target), ours)
        hidden = slim_block.expand(ours)
        kernel, bias = wide_block.depthwise.folded()
        _set(slim_block.depthwise, kernel[kept], bias[kept], hidden)
        hidden = slim_block.depthwise(hidden)

        theirs = wide_block(theirs)
        target_stream = torch.einsum("nchw,cd->ndhw", theirs, basis)
        target = target_stream - ours if slim_block.residual else target_stream
        _set(slim_block.project, *_solve(hidden, target), hidden)
        ours = slim_block(ours)
        back = torch.einsum("ndhw,cd->nchw", ours - target_stream, basis)
        lost = theirs - torch.einsum("ndhw,cd->nchw", target_stream, basis)
        lost = lost - lost.mean((0, 2, 3), keepdim=True)
        explained.append(1 - float((back - lost).square().sum() / _centred(theirs).square().sum()))
    return explained


def _stream_bases(wide: MobileNetV2, slim: MobileNetV2, images: Tensor) -> list[Tensor]:
    """Return, for each block, the orthonormal basis (wide, slim) of the stream that it writes."""
    x = wide.stem(images)
    bases, first = [], 0
    for _, _, repeats, _ in STAGES:
        blocks = inverted_residuals(wide.blocks)[first : first + repeats]
        width = inverted_residuals(slim.blocks)[first].project.conv.out_channels
        channels = blocks[0].project.conv.out_channels
        covariance = torch.zeros(channels, channels)
        for block in blocks:
            x = block(x)
            rows = _centred(x).permute(0, 2, 3, 1).reshape(-1, channels)
            covariance += rows.T @ rows
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :width]
        bases += [torch.eye(channels) if width == channels else axes] * repeats
        first += repeats
    return bases


def _strongest(block: InvertedResidual, x: Tensor, count: int) -> Tensor:
    """Return the hidden channels of a wide block with the largest effect on its output, sorted."""
    hidden = block.depthwise(block.expand(x))
    energy = hidden.var((0, 2, 3)) * block.project.folded()[0][:, :, 0, 0].square().sum(0)
    strongest: Tensor = energy.topk(count).indices.sort().values
    return strongest


def _solve(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 1x1 kernel (O, I, 1, 1) and bias (O,) that map inputs to target best (ridge)."""
    x = inputs.permute(0, 2, 3, 1).reshape(-1, inputs.shape[1])
    y = target.permute(0, 2, 3, 1).reshape(-1, target.shape[1])
    step = max(1, len(x) // ROWS)
    x, y = x[::step].double(), y[::step].double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    kernel = torch.linalg.solve(gram, x.T @ y).T
    return kernel[:, :, None, None].float(), (y_mean - kernel @ x_mean).float()


def _set(unit: ConvNormAct, kernel: Tensor, bias: Tensor, inputs: Tensor) -> None:
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


def _centred(x: Tensor) -> Tensor:
    return x - x.mean((0, 2, 3), keepdim=True)


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
        ValueError: the folder has fewer images.
    """
    paths = sorted(folder.glob("*.jpg"))
    if len(paths) < count:
        raise ValueError(f"{folder} holds {len(paths)} .jpg files, {count} are needed")
    chosen = np.random.default_rng(seed).choice(len(paths), count, replace=False)
    images = [
        cv2.resize(decode(paths[i])[0], (size, size), interpolation=cv2.INTER_AREA) for i in chosen
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def read_wide(source: Path) -> MobileNetV2:
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Cut a narrow MobileNetV2 out of a pretrained x1.0."
    )
    parser.add_argument("--source", type=Path, required=True, help=SOURCES)
    parser.add_argument("--images", type=Path, required=True, help="folder of sample images (.jpg)")
    parser.add_argument("--out", type=Path, required=True, help="file of the narrow backbone")
    parser.add_argument("--width", type=float, default=0.75)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--size", type=int, default=224, help="side of the samples in pixels")
    arguments = parser.parse_args()
    try:
        wide = read_wide(arguments.source)
        uneven = pads_unevenly(wide)
        slim = MobileNetV2(arguments.width, uneven=uneven)
        images = read_samples(arguments.images, arguments.samples, arguments.size)
        for index, share in enumerate(narrow(wide, slim, images)):
            print(f"block {index:2d}: {share:6.1%} of the variance kept")
        name = f"mobilenet_v2_{round(100 * arguments.width):03}"
        weights = BackboneWeights(name, uneven, False, slim.state_dict())
        write_backbone(arguments.out, weights)
    except (ValueError, OSError) as error:
        sys.exit(f"training.weights.narrow_mobilenet: {error}")


if __name__ == "__main__":
    main()

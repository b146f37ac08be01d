# SPDX-License-Identifier: Apache-2.0
"""Load the weights of a darknet network into the same detector of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from training.darknet.cfg import DarknetError
from training.darknet.network import DarknetNetwork
from training.darknet.weights import ConvolutionWeights
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.blocks import ConvNormAct, statistics
from training.detectors.interface import Detector
from training.detectors.registry import DETECTORS, build


@torch.no_grad()
def transferred(
    name: str, network: DarknetNetwork, weights: Sequence[ConvolutionWeights]
) -> Detector:
    """Build the detector ``name`` with the weights of a darknet network.

    Args:
        name: of the registry.
        network: the network of the cfg, with the weights loaded.
        weights: of its convolutions.

    Raises:
        DarknetError: there is no such detector, or it is another network: its convolutions differ
            or are in another order, or it computes other maps.
    """
    if name not in DETECTORS:
        raise DarknetError(f"there is no detector {name}: give one of {', '.join(DETECTORS)}")
    # Detectors of the registry begin with the finest level.
    order = sorted(range(len(network.grid.strides)), key=network.grid.strides.__getitem__)
    grid = _reordered(network.grid, order)
    if _kind(DETECTORS[name].config.grid) != _kind(grid):
        raise DarknetError(f"{name} is another network than the cfg: its outputs are different")
    detector = build(name, num_classes=network.num_classes, grid=grid).eval()
    _load(name, detector, weights)
    noise = torch.Generator().manual_seed(0)
    image = torch.rand(1, *network.input, generator=noise)
    expected = network(image)
    pairs = zip(detector(image), (expected[level] for level in order), strict=True)
    if any((ours - theirs).abs().max() > 1e-4 * theirs.abs().max() for ours, theirs in pairs):
        raise DarknetError(f"{name} is another network than the cfg: its results are different")
    return detector


def decodes_by_default(name: str, grid: AnchorGrid) -> bool:
    """Return whether the anchors and scales of ``grid`` are those of the row of ``name``."""
    own = DETECTORS[name].config.grid
    scales = own.xy_scales or (1.0,) * len(own.strides)
    return (own.anchors, scales) == (grid.anchors, grid.xy_scales)


def _kind(grid: AnchorGrid) -> tuple[object, ...]:
    return grid.strides, grid.per_cell, grid.softmax, grid.squared


def _reordered(grid: AnchorGrid, order: Sequence[int]) -> AnchorGrid:
    return replace(
        grid,
        anchors=tuple(grid.anchors[level] for level in order),
        strides=tuple(grid.strides[level] for level in order),
        xy_scales=tuple(grid.xy_scales[level] for level in order),
    )


def _load(name: str, detector: Detector, weights: Sequence[ConvolutionWeights]) -> None:
    layers = _convolutions(detector)
    if len(layers) != len(weights):
        raise DarknetError(
            f"{name} is another network than the cfg: it has {len(layers)} convolutions, "
            f"the cfg {len(weights)}"
        )
    for number, (layer, stored) in enumerate(zip(layers, weights, strict=True), 1):
        values = {key: value for key, value in vars(stored).items() if value is not None}
        targets = _targets(layer)
        if {k: v.shape for k, v in targets.items()} != {k: v.shape for k, v in values.items()}:
            kernel = tuple(targets["kernel"].shape)
            raise DarknetError(
                f"{name} is another network than the cfg: its convolution {number} has a kernel of "
                f"{kernel} and {'' if 'scale' in targets else 'no '}normalisation, that of the cfg "
                f"{stored.kernel.shape} and {'' if 'scale' in values else 'no '}normalisation"
            )
        for key, target in targets.items():
            target.copy_(torch.from_numpy(values[key].copy()))


def _convolutions(detector: Detector) -> list[ConvNormAct | nn.Conv2d]:
    """Return all convolutions in the order of their registration; a normalised one counts once."""
    inside = {m.conv for m in detector.modules() if isinstance(m, ConvNormAct)}
    return [
        m for m in detector.modules() if isinstance(m, ConvNormAct | nn.Conv2d) and m not in inside
    ]


def _targets(layer: ConvNormAct | nn.Conv2d) -> dict[str, Tensor]:
    """Return the tensors of a layer by the names of ``ConvolutionWeights``."""
    if isinstance(layer, ConvNormAct):
        vectors = (layer.norm.bias, layer.norm.weight, *statistics(layer.norm))
        names = ("shift", "scale", "mean", "variance")
        return {"kernel": layer.conv.weight} | dict(zip(names, vectors, strict=True))
    kernel: dict[str, Tensor] = {"kernel": layer.weight}
    return kernel if layer.bias is None else kernel | {"shift": layer.bias}

# SPDX-License-Identifier: Apache-2.0
"""Feature distillation: a detector learns the feature maps of a better one, beside the labels.

Of each stride that both have, the maps that the output layers read are compared. A 1x1
convolution, which is trained along and thrown away, brings the student's map to the teacher's
channels. Every channel is brought to mean 0 and variance 1 over the batch, so that only its pattern
counts: half the mean squared difference is then 1 - r, with r Pearson's correlation. Source: W. Cao
et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation
Coefficient, NeurIPS 2022, section 3.2, which compares the maps of necks of the same width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from training.detectors.interface import Network, as_module, device_of

PROBE = (1, 3, 64, 64)
EPSILON = 1e-6
"""Added to variances: a channel that is the same everywhere has no pattern."""


class FeatureDistillation:
    """The loss of a student's features.

    Args:
        student: the detector that is trained. From now on it keeps the maps that its output layers
            read, until ``loss`` takes them.
        teacher: the detector that it learns from; not trained.

    Attributes:
        teacher: in evaluation mode.
        adapters: the convolutions to the teacher's channels, trained along with the student.

    Raises:
        ValueError: the two have no stride in common.
    """

    def __init__(self, student: Network, teacher: Network) -> None:
        self.teacher = as_module(teacher).eval().requires_grad_(False)
        self._shown, self._copied = Tap(teacher), Tap(student)
        shared = sorted(self._shown.channels.keys() & self._copied.channels.keys())
        if not shared:
            raise ValueError(
                f"the teacher has maps of strides {_text(self._shown)}, the detector of "
                f"{_text(self._copied)}: give a teacher with one of them"
            )
        widths = {s: (self._copied.channels[s], self._shown.channels[s]) for s in shared}
        self.adapters: nn.Module = Adapters(widths)

    def loss(self, images: Tensor) -> Tensor:
        """Return the sum of 1 - r over the strides, of the student's last pass.

        Args:
            images: (N, 3, H, W), RGB in 0..1, which the student has just been given.
        """
        with torch.no_grad():
            self.teacher(images)
        shown, copied = self._shown.take(), self.adapters(self._copied.take())
        return torch.stack([dissimilarity(copied[s], shown[s]) for s in copied]).sum()


class Tap:
    """Keeps the maps that the output layers of a network read in its last pass.

    Attributes:
        channels: of these maps, by stride.
    """

    def __init__(self, network: Network) -> None:
        self._kept: dict[int, Tensor] = {}
        self.channels: dict[int, int] = {}
        for stride, layer in zip(network.grid.strides, output_layers(network), strict=True):
            layer.register_forward_pre_hook(partial(self._keep, stride))
            self.channels[stride] = layer.in_channels

    def take(self) -> dict[int, Tensor]:
        """Return the maps (N, C, h, w) by stride, and forget them."""
        kept, self._kept = self._kept, {}
        return kept

    def _keep(self, stride: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._kept[stride] = inputs[0]


class Adapters(nn.Module):
    """1x1 convolutions from a student's channels to a teacher's.

    Args:
        widths: channels of student and teacher, by stride.
    """

    def __init__(self, widths: Mapping[int, tuple[int, int]]) -> None:
        super().__init__()
        self.by_stride = nn.ModuleDict({str(s): nn.Conv2d(*w, 1) for s, w in widths.items()})

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        return {int(s): adapter(maps[int(s)]) for s, adapter in self.by_stride.items()}


def output_layers(network: Network) -> list[nn.Conv2d]:
    """Return the convolutions whose outputs are the raw maps, in their order."""
    probed = copy.deepcopy(as_module(network)).eval()
    made: list[tuple[Tensor, nn.Conv2d]] = []

    def note(layer: nn.Conv2d, probe: nn.Module, inputs: object, output: Tensor) -> None:
        made.append((output, layer))

    for layer, probe in zip(network.modules(), probed.modules(), strict=True):
        if isinstance(layer, nn.Conv2d):
            probe.register_forward_hook(partial(note, layer))
    with torch.no_grad():
        maps = probed(torch.zeros(PROBE, device=device_of(network)))
    return [next(layer for output, layer in made if output is map_) for map_ in maps]


def dissimilarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of 1 - r over the channels, with r Pearson's correlation over N, H and W.

    Args:
        first: (N, C, H, W).
        second: (N, C, H, W).
    """
    return (standardised(first) - standardised(second)).square().mean() / 2


def standardised(maps: Tensor) -> Tensor:
    """Return maps (N, C, H, W) with mean 0 and variance 1 of every channel, float32."""
    variance, mean = torch.var_mean(maps.float(), (0, 2, 3), correction=0, keepdim=True)
    return (maps.float() - mean) * (variance + EPSILON).rsqrt()


def _text(tap: Tap) -> str:
    return ", ".join(map(str, sorted(tap.channels)))

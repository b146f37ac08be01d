# SPDX-License-Identifier: Apache-2.0
"""What the rest of the package needs of a detector.

A detector is a ``torch.nn.Module`` with three attributes; it inherits from nothing else. These
protocols name what is used, and mypy compares each family with them where its rows are built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from training.detectors.anchor_grid import AnchorGrid

M = TypeVar("M", bound="Module")


class Module(Protocol):
    """The methods of ``torch.nn.Module`` that are called on detectors and their parts."""

    training: bool

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]: ...

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]: ...

    def children(self) -> Iterator[nn.Module]: ...

    def named_children(self) -> Iterator[tuple[str, nn.Module]]: ...

    def set_submodule(self, target: str, module: nn.Module) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def train(self: M, mode: bool = True) -> M: ...

    def eval(self: M) -> M: ...

    def requires_grad_(self: M, requires_grad: bool = True) -> M: ...

    def __call__(self, images: Tensor) -> Any: ...


class Network(Module, Protocol):
    """Images to raw maps: what the loss, the export and the counting of operations need."""

    @property
    def grid(self) -> AnchorGrid:
        """Anchors and strides that turn the raw maps into boxes."""

    @property
    def num_classes(self) -> int:
        """Classes (C) of every map."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the raw maps of a batch.

        Args:
            images: (N, 3, H, W) floating point, RGB in 0..1; H and W are multiples of 32.

        Returns:
            For each of ``grid.strides`` s a map (N, A * (5 + C), H / s, W / s): for each of its A
            anchors the centre in its cell (x, y), the logarithm of width and height relative to the
            anchor, the objectness and the classes, all as logits (``anchor_grid.decode_boxes``).
            Channels that belong to classes come last wherever a dimension holds others too.
        """


class Backbone(Module, Protocol):
    """The part of a detector that extracts features, and that a recipe may freeze.

    ``frozen_blocks`` of a recipe counts the members of its submodule ``blocks``, in the order of
    computation; submodules that are registered before it are computed before it (the stem). A
    backbone without ``blocks`` is counted by its children.
    """

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Map images (N, 3, H, W), RGB in 0..1, to the maps (N, C, h, w) that the rest reads."""


class Detector(Network, Protocol):
    """A network that can be trained: its features come from a backbone.

    Its modules are made of ``blocks.ConvNormAct`` wherever a convolution has a batch norm: the
    export folds these, quantisation-aware training rounds them. Each convolution runs once in a
    pass.
    """

    @property
    def backbone(self) -> Backbone:
        """Feature extractor, a submodule of this name."""


def as_module(network: Module) -> nn.Module:
    """Return the same object where PyTorch or Fabric expect a ``torch.nn.Module``.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"{type(network).__name__} is not a torch.nn.Module")
    return network


def device_of(network: Module) -> torch.device:
    """Return where the parameters are."""
    return next(network.parameters()).device

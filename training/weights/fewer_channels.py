# SPDX-License-Identifier: Apache-2.0
"""Start a detector from trained weights of the same network with more channels.

Of every layer the channels with the largest norms stay, with all that they read and write. So
``micro_yolo_pruned`` begins with what ``micro_yolo`` has learnt, as in its paper (Micro-YOLO, Hu et
al., 2021, 4.2: "the weights before pruning"), and a pruning study goes from step to step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.detectors.channel_graph import ChannelGraph, Group, narrow, trace
from training.detectors.interface import Detector, Module, as_module
from training.detectors.variant import Variant
from training.loop.checkpoint import shapes

Criterion = Literal["l1", "gamma"]


def narrowed(
    network: Detector, before: Variant, after: Variant, by: Criterion = "l1"
) -> Mapping[str, Tensor]:
    """Return the weights of a trained detector without its least important channels.

    Args:
        network: trained, of ``before``; changed in place.
        before: its description.
        after: the description of what is left.
        by: see ``importance``.

    Raises:
        ValueError: ``after`` is not the same network with fewer channels.
    """
    _, graph = untrained(before, network.num_classes)
    slim, slim_graph = untrained(after, network.num_classes)
    own, widths = graph.widths(), slim_graph.widths()
    if own.keys() != widths.keys() or any(widths[name] > own[name] for name in own):
        raise ValueError(f"{after} is not {before} with fewer channels")
    kept = {}
    for name, group in graph.groups.items():
        order = np.argsort(-importance(network, graph, group, by), kind="stable")
        kept[name] = np.sort(order[: widths[name]])
    narrow(network, graph, kept)
    state: Mapping[str, Tensor] = network.state_dict()
    if not fits(state, network, slim):
        raise ValueError(f"{after} is not {before} with fewer channels")
    return state


def fits(state: Mapping[str, Tensor], network: Module, other: Module) -> bool:
    """Whether weights that were made of a network's are for another one with the same layers.

    Networks of the same channels may differ in their kernels, and in what has no weights.
    """
    return shapes(state) == shapes(other.state_dict()) and _kinds(network) == _kinds(other)


def _kinds(network: Module) -> dict[str, tuple[type, object]]:
    """What each module is, such as an activation or a padding, and its stride."""
    named = network.named_modules()
    return {name: (type(module), getattr(module, "stride", None)) for name, module in named}


def importance(network: Module, graph: ChannelGraph, group: Group, by: Criterion) -> NDArray[Any]:
    """Return a figure for each channel of a group (C,): those with small ones are pruned first.

    Args:
        network: with its weights.
        graph: of it.
        group: of the graph.
        by: ``l1``: the sum of the absolute kernels that write the channel (Li et al., 2017);
            ``gamma``: of the factors of the batch norms behind them (Liu et al., 2017).
    """
    modules, total = dict(network.named_modules()), np.zeros(graph.count)
    for name, written in graph.writes.items():
        module = modules[name]
        if isinstance(module, nn.Conv2d if by == "l1" else nn.BatchNorm2d):
            np.add.at(total, written, _sizes(module.weight))
    found: NDArray[Any] = total[group.channels]
    return found


def _sizes(weight: Tensor) -> NDArray[Any]:
    """Return the sum of the absolute values that belong to each output."""
    sizes: NDArray[Any] = weight.detach().abs().reshape(len(weight), -1).sum(1).numpy()
    return sizes


def untrained(detector: Variant, num_classes: int) -> tuple[Module, ChannelGraph]:
    """Return a network of any weights, and the channels that it has with ``channels`` applied."""
    whole = detector.graph(num_classes)
    with torch.device("meta"):
        network = as_module(detector.build(num_classes))
    network.to_empty(device="cpu")
    return network, trace(network, whole.fixed)

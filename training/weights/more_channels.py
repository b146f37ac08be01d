# SPDX-License-Identifier: Apache-2.0
"""Start a detector from trained weights of the same network with fewer channels.

What it computes stays the same: the additional channels are copies of others, and whatever reads a
channel with copies shares its weight among them (Net2WiderNet: Chen et al., 2016, section 2.3.1).
So ``yolo_ret_m14`` begins with what ``yolo_ret_m075`` finds. The authors add noise, for training
would change equal copies alike. Here every output draws its own shares of the copies instead, so
that they have other gradients from the first step, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from training.detectors.channel_graph import ChannelGraph, Channels
from training.detectors.interface import Detector
from training.detectors.variant import Variant
from training.weights.fewer_channels import fits, untrained

SHARES = (1.0, 3.0)
"""Of what a share is drawn, before those of a channel's copies are made to sum to 1."""


def widened(
    network: Detector, before: Variant, after: Variant, seed: int = 0
) -> Mapping[str, Tensor]:
    """Return weights with which a wider detector computes what a trained one does.

    Args:
        network: trained, of ``before``.
        before: its description.
        after: the description of the wider one.
        seed: of the choice of channels, and of the shares.

    Raises:
        ValueError: ``after`` is not the same network with more channels.
    """
    _, graph = untrained(before, network.num_classes)
    wide, wide_graph = untrained(after, network.num_classes)
    own, widths = graph.widths(), wide_graph.widths()
    if own.keys() != widths.keys() or any(widths[name] < own[name] for name in own):
        raise ValueError(f"{after} is not {before} with more channels")
    random = torch.Generator().manual_seed(seed)
    origins = _origins(graph, wide_graph, random)
    layers, state = dict(network.named_modules()), {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer in graph.writes and value.ndim:
            value = value[_places(graph.writes[layer], origins, wide_graph.writes[layer])]
            if kind == "weight" and getattr(layers[layer], "groups", 0) == 1:
                inputs = _places(graph.reads[layer], origins, wide_graph.reads[layer])
                value = value[:, inputs] * shares(len(value), inputs, random)[:, :, None, None]
        state[name] = value
    if not fits(state, network, wide):
        raise ValueError(f"{after} is not {before} with more channels")
    return state


def _origins(graph: ChannelGraph, wide: ChannelGraph, random: torch.Generator) -> Channels:
    """Return for each channel of a wide network the one that it is, or is a copy of."""
    origins = np.full(wide.count, -1)
    for name, group in wide.groups.items():
        channels = graph.groups[name].channels
        order = torch.randperm(len(channels), generator=random).numpy()
        copies = np.resize(channels[order], len(group.channels) - len(channels))
        origins[group.channels] = np.concatenate((channels, copies))
    changing = np.concatenate([group.channels for group in graph.groups.values()])
    for table, wide_table in ((graph.reads, wide.reads), (graph.writes, wide.writes)):
        for name, channels in wide_table.items():
            fixed = channels[origins[channels] < 0]
            if len(fixed):
                origins[fixed] = table[name][~np.isin(table[name], changing)]
    return origins


def _places(channels: Channels, origins: Channels, wide: Channels) -> Tensor:
    """Return where a layer has the origin of each channel that its wide layer has.

    A channel may come several times, as when a map is joined with its own maxima.

    Raises:
        ValueError: it has none, so the layer gets its channels from others.
    """
    place_of = {key: place for place, key in enumerate(_numbered(channels))}
    wanted = [(int(origins[channel]), before) for channel, before in _numbered(wide)]
    if not place_of.keys() >= set(wanted):
        raise ValueError("layers are connected differently: it is not the same with more channels")
    return torch.tensor([place_of[key] for key in wanted])


def _numbered(channels: Channels) -> Iterator[tuple[int, int]]:
    """Yield every channel with how often it has come before."""
    seen: dict[int, int] = {}
    for channel in channels.tolist():
        seen[channel] = seen.get(channel, -1) + 1
        yield channel, seen[channel]


def shares(outputs: int, inputs: Tensor, random: torch.Generator) -> Tensor:
    """Draw how each output shares its weights among the copies of a channel.

    Args:
        outputs: how many.
        inputs: for each channel that is read, the one that it is a copy of, (I,).
        random: draws.

    Returns:
        Factors (outputs, I); those of the copies of a channel sum to 1.
    """
    drawn = torch.empty(outputs, len(inputs)).uniform_(*SHARES, generator=random)
    sums = torch.zeros(outputs, int(inputs.max()) + 1).index_add_(1, inputs, drawn)
    return drawn / sums[:, inputs]

# SPDX-License-Identifier: Apache-2.0
"""Which channels of a detector belong together, and how a detector gets fewer of them.

A network is run once, and every channel of every map is followed: through concatenations and slices
it keeps its identity, a sum or a product makes two channels one, a depthwise convolution passes it
on. Channels that the same layers write and read are a group: any of them can be taken out of all
these layers, and the rest of the network stays as it is.

Channels stay where their number or place has a meaning: the image, the raw maps, what counts
classes, and what an operation reads that is not known here (darknet's reorganisation of a map).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from training.detectors.blocks import InvertedResidual, SqueezeExcite
from training.detectors.interface import Module, device_of

Channels = NDArray[np.int64]

UNCHANGED = {
    "batch_norm", "relu", "relu6", "hardtanh", "silu", "leaky_relu", "sigmoid", "dropout",
}  # fmt: skip
"""Operations on each value by itself. As values do not matter, they are left out."""
PASSING = {"max_pool2d", "interpolate", "adaptive_avg_pool2d", "pad"}
"""Operations on each channel by itself."""
PAIRING = {"add", "radd", "iadd", "mul", "rmul", "imul"}
"""Operations on two maps, channel by channel."""
SIDE = 64
"""Pixels of the image that is followed."""


@dataclass(frozen=True)
class Group:
    """Channels that can be taken out one by one.

    Attributes:
        name: of the layer that writes them, the first one; where that one writes several groups,
            the later ones have ``/1``, ``/2``, ... behind it.
        channels: numbers in the graph, in the order in which the layer writes them.
        follows: name of the layer whose input decides on the width: a group inside an inverted
            bottleneck, or of a channel attention, is a constant share of what the block reads.
            Empty: the group has a width of its own.
    """

    name: str
    channels: Channels
    follows: str = ""


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a network, by numbers that are the same wherever a channel goes.

    Attributes:
        reads: channels of the input of each convolution, by its name.
        writes: channels of the output of each convolution and batch norm, by its name.
        groups: what can be taken out, by name, in the order of computation.
        count: numbers are below this.
        fixed: convolutions whose outputs cannot change, as they count classes.
    """

    reads: Mapping[str, Channels]
    writes: Mapping[str, Channels]
    groups: Mapping[str, Group]
    count: int
    fixed: frozenset[str]

    def widths(self) -> dict[str, int]:
        """Return the channels in each group."""
        return {name: len(group.channels) for name, group in self.groups.items()}

    def alive(self, kept: Mapping[str, Channels]) -> NDArray[np.bool_]:
        """Return which channels are left.

        Args:
            kept: places in groups, ascending; the groups that are not named stay whole.
        """
        left = np.ones(self.count, bool)
        for name, places in kept.items():
            channels = self.groups[name].channels
            left[channels] = False
            left[channels[places]] = True
        return left

    def following(self, kept: Mapping[str, Channels]) -> dict[str, int]:
        """Return the width of every group that follows what is left of others."""
        left, widths = self.alive(kept), {}
        for group in self.groups.values():
            if group.follows:
                read = left[self.reads[group.follows]]
                widths[group.name] = max(1, len(group.channels) * int(read.sum()) // len(read))
        return widths


def trace(network: Module, fixed: frozenset[str] = frozenset()) -> ChannelGraph:
    """Follow the channels of a network.

    Args:
        network: maps images (N, 3, H, W) to raw maps; it is put into training mode, in which
            convolutions and batch norms are separate. What its weights are does not matter.
        fixed: names of convolutions whose outputs cannot change.
    """
    tracer = _Tracer(network, fixed)
    network.train()
    with torch.device(device_of(network)), torch.no_grad():
        images = tracer.label(torch.zeros(1, 3, SIDE, SIDE), tracer.fresh(3, fixed=True))
        with tracer:
            maps = network(images)
    for map_ in maps:
        tracer.fix(tracer.labels[id(map_)])
    return tracer.graph(network)


class _Tracer(TorchFunctionMode):
    """Sees every operation of PyTorch, and knows the channels of every map by its identity."""

    def __init__(self, network: Module, fixed: frozenset[str]) -> None:
        super().__init__()
        layers = [
            (name, m)
            for name, m in network.named_modules()
            if isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        ]
        self.layers = {id(m.weight): (name, m) for name, m in layers}
        self.kept = fixed
        self.labels: dict[int, Channels] = {}
        self.alive: list[Tensor] = []  # an identity is used again when its tensor is gone
        self.same: list[int] = []
        self.fixed: set[int] = set()
        self.reads: dict[str, Channels] = {}
        self.writes: dict[str, Channels] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = list(_tensors((*args, *kwargs.values())))
        maps = [self.labels[id(t)] for t in inputs if id(t) in self.labels]
        layer = next((self.layers[id(t)] for t in inputs if id(t) in self.layers), None)
        name = str(getattr(func, "__name__", "")).strip("_")
        if name in UNCHANGED and maps:
            if layer is not None:
                self.writes[layer[0]] = maps[0]
            return args[0]
        if layer is not None and isinstance(layer[1], nn.Conv2d):
            return self._convolve(layer[0], layer[1], args[0])
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and maps:
            self.label(result, self._written(name, maps, args, kwargs, result))
        return result

    def label(self, tensor: Tensor, channels: Channels) -> Tensor:
        self.labels[id(tensor)] = channels
        self.alive.append(tensor)
        return tensor

    def fresh(self, count: int, fixed: bool = False) -> Channels:
        channels = np.arange(len(self.same), len(self.same) + count)
        self.same.extend(channels.tolist())
        if fixed:
            self.fix(channels)
        return channels

    def fix(self, channels: Channels) -> None:
        self.fixed.update(channels.tolist())

    def _written(
        self,
        name: str,
        maps: list[Channels],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Tensor,
    ) -> Channels:
        """Return the channels of what an operation has computed."""
        if name in PASSING and len(maps) == 1:
            return maps[0]
        if name in PAIRING and len({len(m) for m in maps}) == 1:
            for other in maps[1:]:
                self._unite(maps[0], other)
            return maps[0]
        if name == "cat" and 1 in (*args[1:], *kwargs.values()):
            return np.concatenate(maps)
        if name == "getitem" and isinstance(args[1], tuple):
            return _indexed(maps[0], args[1], args[0].ndim)
        for channels in maps:
            self.fix(channels)
        return self.fresh(result.shape[1] if result.ndim > 1 else 1, fixed=True)

    def _convolve(self, name: str, conv: nn.Conv2d, map_: Tensor) -> Tensor:
        """Return a map of the size that a convolution gives; its values do not matter."""
        read = self.labels[id(map_)]
        depthwise = conv.groups == conv.in_channels == conv.out_channels
        grouped = conv.groups > 1 and not depthwise
        if grouped:
            self.fix(read)
        written = read if depthwise else self.fresh(conv.out_channels, name in self.kept or grouped)
        self.reads[name], self.writes[name] = read, written
        assert not isinstance(conv.padding, str)
        sides = [
            (side + 2 * pad - kernel) // stride + 1
            for side, pad, kernel, stride in zip(
                map_.shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True
            )
        ]
        return self.label(map_.new_zeros(1, conv.out_channels, *sides), written)

    def _unite(self, first: Channels, second: Channels) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self.same[high] = low

    def _root(self, channel: int) -> int:
        while self.same[channel] != channel:
            channel = self.same[channel]
        return channel

    def graph(self, network: Module) -> ChannelGraph:
        roots = np.array([self._root(channel) for channel in range(len(self.same))])
        reads = {name: roots[channels] for name, channels in self.reads.items()}
        writes = {name: roots[channels] for name, channels in self.writes.items()}
        fixed = {int(roots[channel]) for channel in self.fixed}
        groups = {g.name: g for g in _groups(reads, writes, fixed, _followers(network))}
        return ChannelGraph(reads, writes, groups, len(roots), self.kept)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _indexed(channels: Channels, index: tuple[Any, ...], dimensions: int) -> Channels:
    """Return the channels of ``map[index]``; only slices of channels change them."""
    before = index.index(Ellipsis) if Ellipsis in index else len(index)
    after = len(index) - before - 1
    place = 1 if before > 1 else 1 - dimensions + len(index)
    if before <= 1 and (before == len(index) or after < dimensions - 1):
        return channels
    found: Channels = channels[index[place]]
    return found


def _groups(
    reads: Mapping[str, Channels],
    writes: Mapping[str, Channels],
    fixed: set[int],
    followers: Mapping[str, str],
) -> Iterator[Group]:
    """Yield channels that the same layers write and read, together."""
    users: dict[int, list[str]] = {}
    for sort, table in (("<", reads), (">", writes)):
        for name, channels in table.items():
            for channel in channels.tolist():
                users.setdefault(channel, []).append(sort + name)
    seen: set[int] = set()
    for name, channels in writes.items():
        parts: dict[tuple[str, ...], list[int]] = {}
        for channel in channels.tolist():
            if channel not in seen and channel not in fixed:
                parts.setdefault(tuple(users[channel]), []).append(channel)
        seen.update(channels.tolist())
        plain = name.removesuffix(".conv")
        for number, part in enumerate(parts.values()):
            ending = f"/{number}" if number else ""
            yield Group(plain + ending, np.array(part), followers.get(name, ""))


def _followers(network: Module) -> dict[str, str]:
    """Return convolutions that write a constant share of what they, or another one, read."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, InvertedResidual) and not isinstance(module.expand, nn.Identity):
            expand = f"{name}.expand.conv"
            found[expand] = expand
            if isinstance(module.attend, SqueezeExcite):
                found[f"{name}.attend.reduce"] = expand
        elif isinstance(module, SqueezeExcite):
            found.setdefault(f"{name}.reduce", f"{name}.reduce")
    return found


def narrow(network: Module, graph: ChannelGraph, kept: Mapping[str, Channels]) -> None:
    """Take channels out of all layers of a network; the values that are left stay.

    Args:
        network: of which ``graph`` is; changed in place.
        graph: its channels.
        kept: places in groups, ascending; the groups that are not named stay whole.
    """
    left = graph.alive(kept)
    modules = dict(network.named_modules())
    for name, written in graph.writes.items():
        module, outputs = modules[name], np.flatnonzero(left[written])
        if isinstance(module, nn.BatchNorm2d):
            _narrow_norm(module, outputs)
        else:
            assert isinstance(module, nn.Conv2d)
            _narrow_convolution(module, outputs, np.flatnonzero(left[graph.reads[name]]))


def _narrow_norm(norm: nn.BatchNorm2d, outputs: Channels) -> None:
    norm.num_features = len(outputs)
    norm.weight, norm.bias = _selected(norm.weight, outputs), _selected(norm.bias, outputs)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean = norm.running_mean[_index(norm.running_mean, outputs)]
    norm.running_var = norm.running_var[_index(norm.running_var, outputs)]


def _narrow_convolution(conv: nn.Conv2d, outputs: Channels, inputs: Channels) -> None:
    if conv.groups > 1:
        conv.groups = len(outputs)
        conv.weight = _selected(conv.weight, outputs)
    else:
        kernel = conv.weight[_index(conv.weight, outputs)]
        conv.weight = nn.Parameter(kernel[:, _index(kernel, inputs)].detach())
    conv.out_channels, conv.in_channels = len(outputs), len(inputs)
    if conv.bias is not None:
        conv.bias = _selected(conv.bias, outputs)


def _selected(values: Tensor, places: Channels) -> nn.Parameter:
    return nn.Parameter(values[_index(values, places)].detach())


def _index(values: Tensor, places: Channels) -> Tensor:
    return torch.as_tensor(places, device=values.device)

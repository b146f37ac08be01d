# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training: a detector that rounds like its Q/DQ graph.

Kernels are rounded with their batch norm folded in, one scale an output channel; every map that a
convolution reads is rounded with one scale, which is learnt (S. K. Esser et al., Learned Step Size
Quantization, ICLR 2020). Gradients pass the rounding unchanged.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Module, as_module, device_of
from training.quantisation.qdq_graph import LARGEST, SMALLEST, Places, kernel_scales, quantise

M = TypeVar("M", bound=Module)

# The submodule of a prepared model that holds the ranges of its maps.
ROUNDINGS = "roundings"
PROBE = (1, 3, 160, 160)
# Batches that set the ranges of maps before these are learnt.
OBSERVED = 16


class Rounding(nn.Module):
    """Rounds a map to 8 bits.

    The range is first the largest magnitude of ``OBSERVED`` training batches, then learnt as its
    logarithm, so that a step of the optimizer changes it by a share. Until it has seen a batch, it
    changes nothing.

    Attributes:
        readers: names of the convolutions that read the map.
        private: they alone see the rounded values.
    """

    def __init__(self, readers: tuple[str, ...], private: bool) -> None:
        super().__init__()
        self.readers, self.private = readers, private
        self.log_range = nn.Parameter(torch.zeros(()))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def scale(self) -> Tensor:
        """Step between two neighbouring values, shape (1,)."""
        return (self.log_range.exp() / LARGEST).reshape(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.seen < OBSERVED:
            self._observe(x)
        if not self.seen:
            return x
        zero = torch.zeros(1, device=x.device)
        with torch.autocast(x.device.type, enabled=False):
            rounded = torch._fake_quantize_learnable_per_tensor_affine(
                x.float(), self.scale, zero, -LARGEST - 1, LARGEST, (x.numel() * LARGEST) ** -0.5
            )
        result: Tensor = rounded.to(x.dtype)
        return result

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        largest = x.abs().max().float().clamp(min=SMALLEST).log()
        self.log_range.copy_(torch.maximum(self.log_range, largest) if self.seen else largest)
        self.seen += 1

    def round_output(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Round what a module returns, for all that read it: a forward hook."""
        rounded: Tensor = self(output)
        return rounded

    def round_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Round what a convolution reads, for it alone: a forward pre-hook."""
        return (self(inputs[0]), *inputs[1:])


def round_kernel(kernel: Tensor) -> Tensor:
    """Round a kernel (O, I, k, k) as its Q/DQ graph does, one scale an output channel."""
    scales = torch.from_numpy(kernel_scales(kernel.detach().float().cpu().numpy()))
    zeros = torch.zeros(len(scales), dtype=torch.int32, device=kernel.device)
    with torch.autocast(kernel.device.type, enabled=False):
        return torch.fake_quantize_per_channel_affine(
            kernel.float(), scales.to(kernel.device), zeros, 0, -LARGEST, LARGEST
        )


class RoundedConvNormAct(ConvNormAct):
    """``ConvNormAct`` with a rounded kernel. Its batch norm keeps its statistics from now on."""

    def _forward(self, x: Tensor) -> Tensor:
        conv, x = self.conv, self.pad(x)
        kernel, bias = self.folded()
        kernel = round_kernel(kernel)
        y: Tensor = self.act(
            functional.conv2d(x, kernel, bias, conv.stride, conv.padding, 1, conv.groups)
        )
        return y


class RoundedConv2d(nn.Conv2d):
    """A convolution with a rounded kernel."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = super()._conv_forward(input, round_kernel(weight), bias)
        return y


def prepare(model: Module) -> None:
    """Make a detector round from now on, in place.

    Its parameters keep their names; its new submodule ``roundings`` holds the ranges of the maps.
    A map that a module returns is rounded for all its readers; other maps, such as concatenations,
    only where a convolution reads them.

    Raises:
        ValueError: a convolution runs more than once in a pass.
    """
    readings = _readings(model)
    names = {module: name for name, module in model.named_modules()}
    roundings = nn.ModuleDict()
    as_module(model).add_module(ROUNDINGS, roundings)
    for producer, readers in readings:
        rounding = Rounding(tuple(names[reader] for reader in readers), producer is None)
        roundings[rounding.readers[0].replace(".", "/")] = rounding
        if producer is not None:
            producer.register_forward_hook(rounding.round_output)
        for reader in readers:
            if producer is None:
                reader.register_forward_pre_hook(rounding.round_input)
            _set_class(
                reader, RoundedConvNormAct if isinstance(reader, ConvNormAct) else RoundedConv2d
            )
    roundings.train(model.training)


def is_prepared(model: Module) -> bool:
    """Return whether ``model`` rounds."""
    return hasattr(model, ROUNDINGS)


def plain(model: M) -> M:
    """Return a copy of a prepared model that does not round."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(getattr(hook, "__self__", None), Rounding):
                    del hooks[key]
        if isinstance(module, RoundedConvNormAct):
            _set_class(module, ConvNormAct)
        elif isinstance(module, RoundedConv2d):
            _set_class(module, nn.Conv2d)
    delattr(model, ROUNDINGS)
    return model


def plain_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what ``prepare`` adds to it."""
    return {name: value for name, value in state.items() if not name.startswith(f"{ROUNDINGS}.")}


def to_int8(model: Module, graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``graph``, the export of ``plain(model)``, with Q/DQ nodes at the learnt scales.

    Raises:
        ValueError: the model has seen no training batch, or the graph is of another model.
    """
    rounding_of = {
        name: m for m in model.modules() if isinstance(m, Rounding) for name in m.readers
    }
    ranges: dict[str, float] = {}
    private, chosen = set(), {}
    for node in graph.graph.node:
        # the exporter names convolutions by their modules; ".1" is one fused with its norm
        name = node.name.removeprefix("detector.") if node.op_type == "Conv" else ""
        rounding = rounding_of.get(name) or rounding_of.get(name.removesuffix(".1"))
        if rounding is not None:
            if not rounding.seen:
                raise ValueError("the detector has not been trained since it was prepared for INT8")
            chosen[node.name] = name
            ranges[node.input[0]] = float(rounding.scale.detach()) * LARGEST
            private |= {node.input[0]} if rounding.private else set()
    if len(chosen) != len(rounding_of):
        raise ValueError("the graph and the model have different convolutions")
    return quantise(graph, Places(tuple(ranges), tuple(chosen), frozenset(private)), ranges)


def _set_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Turn a module into one of another class with the same parameters."""
    module.__class__ = kind


def _readings(model: Module) -> list[tuple[nn.Module | None, list[nn.Module]]]:
    """Run ``model`` once; return the maps that convolutions read, as (producer, readers).

    The producer is the module that returned the map; None: no module did.
    """
    producers: dict[int, nn.Module] = {}
    readers: dict[int, list[nn.Module]] = {}
    calls: Counter[nn.Module] = Counter()
    alive: list[object] = []  # another tensor could get the id() of one that is freed

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        inside = any(isinstance(outer, ConvNormAct) for outer in stack)
        stack.append(module)
        is_conv = isinstance(module, (ConvNormAct, nn.Conv2d)) and not inside
        if is_conv and max(inputs[0].shape[2:]) > 1:
            readers.setdefault(id(inputs[0]), []).append(module)
            alive.append(inputs[0])

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        stack.pop()
        alive.append(output)
        if isinstance(module, nn.Identity) or not isinstance(output, Tensor):
            return
        # An activation may work in place: then it is the producer.
        is_leaf = not any(module.children())
        if is_leaf or id(output) not in producers:
            producers[id(output)] = module

    stack: list[nn.Module] = []
    handles = [module.register_forward_pre_hook(before) for module in model.modules()]
    handles += [module.register_forward_hook(after) for module in model.modules()]
    training = {module: module.training for module in model.modules()}
    with torch.no_grad():
        model.eval()(torch.zeros(PROBE, device=device_of(model)))
    for handle in handles:
        handle.remove()
    for module, mode in training.items():
        module.training = mode
    if any(calls[reader] > 1 for group in readers.values() for reader in group):
        raise ValueError("a convolution runs more than once in a pass: INT8 needs one scale each")
    found = ((producers.get(key), group) for key, group in readers.items())
    return [(p if p is not None and calls[p] == 1 else None, group) for p, group in found]

# SPDX-License-Identifier: Apache-2.0
"""Round the channels of an exported graph up, because runtimes compute in blocks of channels.

ONNX Runtime leaves its blocked layout for a depthwise convolution of 75 channels, and then takes
3.7 times as long as for 80 (3x3 at 52 x 52, AVX-512). The added channels are multiplied by zero
wherever they are read, so that the function stays the same. With AVX2 a block is 8 channels. With
AVX-512 it is 16, and ONNX Runtime itself fills the last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 8
BLOCK_BEFORE = 16
"""That of files which an earlier version wrote."""
# Operators that treat every channel by itself, wherever it lies.
PER_CHANNEL = {"Clip", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu", "Resize", "Sigmoid"}
PAIRWISE = {"Add", "Mul"}
PASSING = PER_CHANNEL | PAIRWISE | {"Concat"}


Weights = dict[str, NDArray[np.float32]]


class Layout(NamedTuple):
    """Where the channels of a map are: ``places`` of the original ones among ``width``."""

    places: NDArray[np.int64]
    width: int


def align_channels(model: onnx.ModelProto, block: int = BLOCK) -> onnx.ModelProto:
    """Return a graph that computes the same with more channels in between.

    Maps that are read by other operators than convolutions and channel-wise ones keep their
    channels, for example the outputs of the network.

    Args:
        model: the graph.
        block: channel counts are rounded up to multiples of this.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layouts = _plan(model.graph, weights, block)
    for node in model.graph.node:
        if node.op_type == "Conv":
            _rewrite(node, weights, layouts)
    del model.graph.initializer[:], model.graph.value_info[:]
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items() if name in used
    )
    return model


def _plan(graph: onnx.GraphProto, weights: Weights, block: int) -> dict[str, Layout]:
    """Decide on the layout of every map."""
    as_they_are = {output.name for output in graph.output}
    while True:
        kept = _kept(graph, weights, as_they_are)
        layouts: dict[str, Layout] = {}
        for node in graph.node:
            known = [layouts[name] for name in node.input if name in layouts]
            if node.op_type == "Conv":
                layouts[node.output[0]] = _written(node, weights, known, kept, block)
            elif node.op_type in PASSING and known:
                maps = [name for name in node.input if name and name not in weights]
                concat = node.op_type == "Concat"
                if len(known) == len(maps) and (concat or len({k.width for k in known}) == 1):
                    layouts[node.output[0]] = _joined(known) if concat else known[0]
                elif any(layout.width > len(layout.places) for layout in known):
                    # The operator also reads a map that could not be widened.
                    as_they_are.update(node.input)
                    break
        else:
            return layouts


def _kept(graph: onnx.GraphProto, weights: Weights, as_they_are: set[str]) -> set[str]:
    """Return the tensors that must keep their channels, ``as_they_are`` among them."""
    kept = set(as_they_are)
    for node in reversed(graph.node):
        if node.op_type == "Conv" and not _grouped(node):
            continue
        passing = _depthwise(node, weights) or (
            node.op_type in PASSING
            and all(weights[name].size <= 1 for name in node.input if name in weights)
            and (node.op_type != "Concat" or helper.get_node_attr_value(node, "axis") == 1)
        )
        if not passing or not kept.isdisjoint(node.output):
            kept.update(node.input)
    return kept


def _written(
    node: onnx.NodeProto, weights: Weights, read: list[Layout], kept: set[str], block: int
) -> Layout:
    """Return the layout of a convolution's output."""
    if _depthwise(node, weights) and read:
        return read[0]
    width = len(weights[node.input[1]])
    widen = not _grouped(node) and node.output[0] not in kept
    return Layout(np.arange(width), -(-width // block) * block if widen else width)


def _joined(layouts: list[Layout]) -> Layout:
    starts = np.cumsum([0, *(layout.width for layout in layouts)])
    places = [layout.places + start for layout, start in zip(layouts, starts, strict=False)]
    return Layout(np.concatenate(places), int(starts[-1]))


def _rewrite(node: onnx.NodeProto, weights: Weights, layouts: dict[str, Layout]) -> None:
    """Give a convolution the weights for the layouts of its input and output."""
    values = [weights[name] for name in node.input[1:]]
    read, written = layouts.get(node.input[0]), layouts[node.output[0]]
    if read and not _grouped(node):
        values[0] = _spread(values[0], read, axis=1)
    if _depthwise(node, weights):
        for attribute in node.attribute:
            if attribute.name == "group":
                attribute.i = written.width
    values = [_spread(value, written, axis=0) for value in values]
    # New names: equal weights of several convolutions may have been one tensor.
    names = [f"{node.output[0]}_{part}" for part in ("kernel", "bias")[: len(values)]]
    weights.update(zip(names, values, strict=True))
    node.input[1:] = names


def _spread(value: NDArray[np.float32], layout: Layout, axis: int) -> NDArray[np.float32]:
    """Put channels where ``layout`` has them, zeros between."""
    shape = list(value.shape)
    shape[axis] = layout.width
    spread = np.zeros(shape, value.dtype)
    spread[(slice(None),) * axis + (layout.places,)] = value
    return spread


def _grouped(node: onnx.NodeProto) -> bool:
    return any(a.name == "group" and a.i > 1 for a in node.attribute)


def _depthwise(node: onnx.NodeProto, weights: Weights) -> bool:
    if node.op_type != "Conv" or not _grouped(node):
        return False
    outputs, inputs_a_group = weights[node.input[1]].shape[:2]
    return bool(inputs_a_group == 1 and helper.get_node_attr_value(node, "group") == outputs)

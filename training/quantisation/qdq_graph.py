# SPDX-License-Identifier: Apache-2.0
"""Where an exported graph is quantised, and the Q/DQ nodes that say so.

The grid is the one that TensorRT documents: signed 8 bits, zero point 0, activations with one scale
a tensor in [-128, 127], kernels with one scale an output channel in [-127, 127], of which no
processor saturates, see ``kernel_scales``. Biases stay float.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

LARGEST = 127
"""The largest quantised value of a map or a kernel; larger ones saturate."""
LARGEST_PAIR = 127.5
"""The largest sum of two values of a kernel before they are rounded, see ``kernel_scales``."""
LARGEST_OF_ANY_PAIR = 64
"""The largest quantised value of a kernel whose pairs are not known: 2 x 64 is one of a pair."""
NEIGHBOURS = 4
"""Input channels that a processor without VNNI multiplies together, in two pairs."""
BIAS_STEPS = 2**30
"""The most steps of map scale times kernel scale that a bias may have."""
SMALLEST = 2.0**-20
"""The range of values that are all zero."""

Constant = NDArray[Any]
"""Values of a tensor that is stored in the file."""


class Places(NamedTuple):
    """What is quantised.

    Attributes:
        tensors: activations that convolutions read, in the order of the graph.
        convolutions: names of the convolutions whose kernels are quantised.
        private: those of ``tensors`` that only convolutions read rounded.
    """

    tensors: tuple[str, ...]
    convolutions: tuple[str, ...]
    private: frozenset[str] = frozenset()


def find_places(model: onnx.ModelProto, skip: Collection[str] = ()) -> Places:
    """Choose what is quantised: the kernels of convolutions over maps, and the maps they read.

    Other readers of these maps, such as residual sums, read the rounded values too. Outputs of
    convolutions are not rounded, so that runtimes can fuse activation functions and sums with them.
    Decoding and the 1x1 maps of channel attention stay float, and so do convolutions that read a
    concatenation: OpenVINO 2026.4 loses what is below zero in it if one of its parts has been
    rounded before and has nothing there.

    Args:
        model: the deployed graph.
        skip: patterns of names of convolutions that stay float (with ``*``, as for file names).

    Raises:
        ValueError: a pattern matches no convolution.
    """
    joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    float_maps = _pooled(model) | joined
    convolutions = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[0] not in float_maps
    ]
    for pattern in skip:
        if not any(fnmatchcase(node.name, pattern) for node in convolutions):
            raise ValueError(f"no quantised convolution has a name like '{pattern}'")
    convolutions = [
        node
        for node in convolutions
        if not any(fnmatchcase(node.name, pattern) for pattern in skip)
    ]
    read = {node.input[0] for node in convolutions}
    tensors = [name for node in model.graph.node for name in node.output if name in read]
    return Places(tuple(tensors), tuple(node.name for node in convolutions))


def raw_maps(model: onnx.ModelProto) -> list[str]:
    """Return the outputs of the last convolutions, which decoding reads."""
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    waiting = [name for node in convolutions for name in node.input]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += producers[name].input if name in producers else ()
    return [node.output[0] for node in convolutions if node.output[0] not in needed]


def quantise(
    model: onnx.ModelProto, places: Places, ranges: Mapping[str, float]
) -> onnx.ModelProto:
    """Return a graph with Q/DQ nodes.

    Args:
        model: the float graph.
        places: what is quantised.
        ranges: the largest magnitude that each tensor of ``places`` can represent.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    chosen = set(places.convolutions)
    constants: dict[str, Constant] = {"quantised_zero": np.asarray(np.int8(0))}
    renamed = {name: f"{name}_quantised" for name in places.tensors}

    def roundings(names: Iterable[str]) -> Iterator[onnx.NodeProto]:
        for name in names:
            if name in renamed:
                scale = f"{name}_scale"
                constants[scale] = np.asarray(_map_scale(ranges[name]))
                yield from pair(name, renamed[name], scale)

    nodes = [*roundings(tensor.name for tensor in graph.input)]
    for node in graph.node:
        if node.name in chosen:
            step = _map_scale(ranges[node.input[0]])
            nodes.append(_quantise_kernel(node, weights, constants, step))
        for place, name in enumerate(node.input):
            if name not in places.private or node.name in chosen:
                node.input[place] = renamed.get(name, name)
        nodes += [node, *roundings(node.output)]
    _finish(model, nodes, constants)
    return model


def pair(name: str, quantised: str, scale: str) -> list[onnx.NodeProto]:
    """Return Q and DQ nodes from tensor ``name`` to tensor ``quantised``."""
    steps = f"{quantised}_steps"
    return [
        helper.make_node(kind, [read, scale, "quantised_zero"], [written], f"{quantised}/{kind}")
        for kind, read, written in (
            ("QuantizeLinear", name, steps),
            ("DequantizeLinear", steps, quantised),
        )
    ]


def kernel_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale (O,) of every output channel of a kernel (O, I, h, w).

    x86 processors without VNNI multiply unsigned maps with kernels by ``vpmaddubsw`` (Intel 64 and
    IA-32 Architectures Software Developer's Manual, volume 2): it adds two products, and saturates
    the sum to 16 bits. With maps up to 255 that cannot happen while two values of a kernel have a
    sum within 128 = floor(32767 / 255). Values of unlike signs are within it at any scale. Two of
    one sign that add up to 127.5 are at most 128 when each is rounded. OpenVINO's kernels take
    pairs from four neighbouring input channels, in an order that is theirs, so the two largest of
    one sign count. Depthwise convolutions (I = 1) widen both factors first and add in 32 bits
    (oneDNN, jit_uni_x8s8s32x_conv_kernel.cpp): they cannot saturate. Those of pictures (fewer than
    four inputs) may pair values of other places, which is not known here: theirs are within 64.
    """
    largest = np.maximum(_largest(np.abs(kernel)), SMALLEST)
    if kernel.shape[1] == 1:
        scales = largest / LARGEST
    elif kernel.shape[1] < NEIGHBOURS:
        scales = largest / LARGEST_OF_ANY_PAIR
    else:
        pair = np.maximum(_largest_pair(kernel), _largest_pair(-kernel))
        scales = np.maximum(largest / LARGEST, pair / LARGEST_PAIR)
    # rounded up, so that float32 adds no step to a value
    return np.nextafter(scales.astype(np.float32), np.float32(np.inf))


def _largest(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest value (O,) of each output channel."""
    found: NDArray[np.float32] = values.reshape(len(values), -1).max(1)
    return found


def _largest_pair(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest sum (O,) of two values above zero among four neighbouring input channels."""
    missing = -kernel.shape[1] % NEIGHBOURS
    padded = np.pad(kernel.clip(min=0), ((0, 0), (0, missing), (0, 0), (0, 0)))
    groups = padded.reshape(len(kernel), -1, NEIGHBOURS, *kernel.shape[2:])
    return _largest(np.partition(groups, -2, axis=2)[:, :, -2:].sum(2))


def _map_scale(largest: float) -> np.float32:
    return np.float32(max(largest, SMALLEST) / LARGEST)


def _quantise_kernel(
    node: onnx.NodeProto,
    weights: Mapping[str, Constant],
    constants: dict[str, Constant],
    step: np.float32,
) -> onnx.NodeProto:
    """Give ``node``, which reads a map of scale ``step``, the 8-bit version of its kernel; return
    the DQ node for it.
    """
    name = node.input[1]
    kernel = weights[name]
    scales = kernel_scales(kernel)
    if len(node.input) > 2:
        # Runtimes count a bias in steps of map times kernel, in 32 bits: the scale of a kernel that
        # is next to nothing must not be.
        least = np.abs(weights[node.input[2]]) / (step * np.float32(BIAS_STEPS))
        scales = np.maximum(scales, least).astype(np.float32)
    steps = np.rint(kernel / scales.reshape(-1, *[1] * (kernel.ndim - 1)))
    constants[f"{name}_steps"] = steps.clip(-LARGEST, LARGEST).astype(np.int8)
    constants[f"{name}_scales"] = scales
    constants[f"{name}_zeros"] = np.zeros(len(scales), np.int8)
    node.input[1] = f"{name}_quantised"
    return helper.make_node(
        "DequantizeLinear",
        [f"{name}_steps", f"{name}_scales", f"{name}_zeros"],
        [node.input[1]],
        f"{name}/DequantizeLinear",
        axis=0,
    )


def _finish(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, Constant]
) -> None:
    """Put ``nodes`` and ``constants`` into the graph, and drop the constants no longer read."""
    graph = model.graph
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    kept += [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
        if name in read
    ]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)


def _pooled(model: onnx.ModelProto) -> set[str]:
    """Names of the maps of one pixel."""
    inferred = shape_inference.infer_shapes(model)
    return {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
        and [d.dim_value for d in value.type.tensor_type.shape.dim][2:] == [1, 1]
    }

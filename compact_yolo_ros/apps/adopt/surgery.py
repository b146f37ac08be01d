# SPDX-License-Identifier: Apache-2.0
"""Makes a graph of this package's contract of a network: pixels in, ranked boxes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.layout import Head, Pixels
from compact_yolo_ros.apps.adopt.source import Source
from compact_yolo_ros.backends.backend import OUTPUTS

if TYPE_CHECKING:
    import onnx

IMAGES = "images"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, red, green, blue, in 0..1; torchvision's values."""
_COMPUTES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ROUNDS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}


def adopted_graph(source: Source, head: Head, pixels: Pixels) -> onnx.ModelProto:
    """Return the network with its pre-processing and decoding inside; ``source.model`` changes.

    Args:
        source: the network.
        head: how its outputs are read.
        pixels: what it wants to see.
    """
    from onnx import TensorProto, helper

    model = source.model
    graph = model.graph
    names = _make_room(graph, {IMAGES, *OUTPUTS})
    _move_constants(graph)
    _store_raw(graph)
    _name_convolutions(graph)
    builder = GraphBuilder(source.opset, source.size)
    _see(builder, source, names.get(source.image, source.image), pixels)
    if source.sides:
        _tell_sides(builder, names.get(source.sides, source.sides))
    before = len(builder.nodes)
    outputs = {
        value.name: _single(builder, value, names.get(value.name, value.name))
        for value in graph.output
    }
    answers = head.decode(builder, outputs)
    builder.op("Identity", answers.boxes, output=OUTPUTS[0])
    builder.op("Identity", answers.scores, output=OUTPUTS[1])
    builder.op("Cast", answers.labels, output=OUTPUTS[2], to=TensorProto.INT32)
    nodes = [*builder.nodes[:before], *graph.node, *builder.nodes[before:]]
    _replace(graph.node, nodes)
    graph.initializer.extend(builder.constants)
    batch = source.batch or "batch"
    height, width = source.size.shape if source.size else ("height", "width")
    _replace(
        graph.input,
        [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [batch, height, width, 3])],
    )
    shapes = ([batch, head.count, 4], [batch, head.count], [batch, head.count])
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    _replace(graph.output, map(helper.make_tensor_value_info, OUTPUTS, kinds, shapes))
    del graph.value_info[:]
    _drop_unread(graph)
    return model


def precision_of(model: onnx.ModelProto) -> str:
    """The number format of a network's weights, as in ``ModelCard``."""
    from onnx import TensorProto

    if any(node.op_type in _ROUNDS for node in model.graph.node):
        return "int8"
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    computing = (node for node in model.graph.node if node.op_type in _COMPUTES)
    return "fp16" if any(halves.intersection(node.input) for node in computing) else "fp32"


def parameters_of(model: onnx.ModelProto) -> int:
    """How many numbers the constants hold that convolutions and products read."""
    read = {
        name for node in model.graph.node if node.op_type in _COMPUTES for name in node.input[1:]
    }
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.name in read)


def _see(builder: GraphBuilder, source: Source, image: str, pixels: Pixels) -> None:
    """Add what makes the network's input ``image`` of ``images``."""
    seen = builder.cast(IMAGES, np.float32)
    if not source.channels_last:
        seen = builder.op("Transpose", seen, perm=[0, 3, 1, 2])
    if pixels.colour == "bgr":
        axis = 3 if source.channels_last else 1
        seen = builder.op("Gather", seen, builder.whole(2, 1, 0), axis=axis)
    if pixels.values != "0-255":
        # The quotient, as the families compute it: queries of DETR differ by the last bit.
        seen = builder.op("Div", seen, builder.constant(255))
    if pixels.values == "imagenet":
        for kind, values in (("Sub", MEAN), ("Div", DEVIATION)):
            ordered = np.array(values if pixels.colour == "rgb" else values[::-1])
            shape = (1, 1, 1, 3) if source.channels_last else (1, 3, 1, 1)
            seen = builder.op(kind, seen, builder.constant(ordered.reshape(shape)))
    if source.half:
        builder.cast(seen, np.float16)
    builder.nodes[-1].output[0] = image


def _tell_sides(builder: GraphBuilder, name: str) -> None:
    """Add the input (1, 2) with width and height: boxes are in input pixels then."""
    sides = [builder.with_axis(side, 0) for side in (builder.width, builder.height)]
    builder.op("Unsqueeze", builder.join(sides, 0), builder.whole(0), output=name)


def _single(builder: GraphBuilder, value: onnx.ValueInfoProto, name: str) -> str:
    """Return an output as float32, unless it is whole numbers."""
    from onnx import TensorProto

    half = value.type.tensor_type.elem_type == TensorProto.FLOAT16
    return builder.cast(name, np.float32) if half else name


def _make_room(graph: onnx.GraphProto, wanted: set[str]) -> dict[str, str]:
    """Rename the network's tensors that have names of the contract; return the new names."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken.update(value.name for value in graph.input)
    names = {name: f"network/{name}" for name in wanted & taken}
    _rename(graph, names)
    return names


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)


def _move_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of Constant nodes: whoever rewrites a graph looks for weights there."""
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    _replace(graph.node, kept)


def _store_raw(graph: onnx.GraphProto) -> None:
    """Store constants as raw bytes: what reads them without the onnx package expects that.

    ONNX Runtime's quantiser, for example, writes scales as lists of numbers.
    """
    from onnx import TensorProto, numpy_helper

    for tensor in graph.initializer:
        if not tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
            raw = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
            if raw.data_type == tensor.data_type:  # numpy has not all types of ONNX
                tensor.CopyFrom(raw)


def _name_convolutions(graph: onnx.GraphProto) -> None:
    """Give every convolution a name of its own, by which quantisation calls it."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    counts = Counter(node.name for node in convolutions)
    for number, node in enumerate(convolutions):
        if not node.name or counts[node.name] > 1:
            node.name = f"convolution_{number}"


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove what the outputs do not need, for example masks and maps for training."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [t for t in graph.initializer if t.name in needed])


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, also in the graphs within it."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names.update(value.name for value in inner.output)
            for other in inner.node:
                names |= _reads(other)
    return names


def _replace(field: object, values: Iterable[object]) -> None:
    """Put other messages into a repeated field of protocol buffers."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]  # type: ignore[attr-defined]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]

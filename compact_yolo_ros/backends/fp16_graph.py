# SPDX-License-Identifier: Apache-2.0
"""A detector's FP32 graph with its network in FP16.

TensorRT 10 and 11 compute in the types that the graph states, so an FP16 engine needs an FP16
graph. Everything up to the last convolution becomes FP16. What follows, decoding and ranking, stays
FP32: FP16 has steps of a quarter of a pixel from 256 on, and would rank many scores as equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.libraries import ONNX
from compact_yolo_ros.model.stored_weights import with_plain_weights
from compact_yolo_ros.support.error_text import one_line

if TYPE_CHECKING:
    import onnx

NETWORK_OPERATORS = {"Conv", "ConvTranspose", "AveragePool", "MaxPool", "Gemm", "MatMul"}
"""What these need is the network; what only comes after them decodes its output."""
SINGLE_INPUTS = {"Resize": {1, 2, 3}}
"""Inputs (by position) that the ONNX standard requires in FP32 whatever the data's type."""


def to_half(data: bytes) -> bytes:
    """Convert an ONNX file; its inputs, outputs and metadata stay as they are.

    Raises:
        BackendError: the ``onnx`` package is missing, or the graph cannot be converted.
    """
    try:
        import onnx
    except ImportError:
        raise BackendError(
            "making an FP16 graph of an FP32 file needs the onnx package", ONNX.install_line
        ) from None
    try:
        model = onnx.load_from_string(with_plain_weights(data))
    except Exception:  # protobuf's own types, which differ from version to version
        reason = "this is not an ONNX file, or it is damaged"
        raise BackendError(reason, "export it again") from None
    try:
        _convert(model)
        onnx.checker.check_model(model, full_check=True)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BackendError(f"the graph cannot be made FP16: {one_line(error)}") from None
    return bytes(model.SerializeToString())


def _convert(model: onnx.ModelProto) -> None:
    from onnx import TensorProto, helper

    graph = model.graph
    network = _network(graph)
    if not network:
        raise ValueError("it has no convolution")
    halves = {name for name in _floats(model) if name in network}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    halved_constants: set[str] = set()
    outside = [node for node in graph.node if node.output[0] not in network]
    singles = {name: f"{name}_single" for node in outside for name in halves & names_read(node)}
    nodes = []
    for node in graph.node:
        inside = node.output[0] in network
        if not inside:
            _read_others(node, singles)
        for place, name in enumerate(node.input):
            if inside and place not in SINGLE_INPUTS.get(node.op_type, ()):
                tensor = constants.get(name)
                if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                    node.input[place] = f"{name}_half"
                    halved_constants.add(name)
        if inside and node.op_type == "Cast" and node.output[0] in halves:
            node.attribute[0].i = TensorProto.FLOAT16
        nodes.append(node)
        nodes += [
            helper.make_node("Cast", [name], [singles[name]], to=TensorProto.FLOAT)
            for name in node.output
            if name in singles
        ]
    _replace(graph.node, nodes)
    _replace(graph.initializer, _used_constants(graph, constants, halved_constants))
    del graph.value_info[:]


def _network(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the network's operators and of all that they depend on."""
    producers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [node for node in graph.node if node.op_type in NETWORK_OPERATORS]
    while waiting:
        node = waiting.pop()
        if node.output[0] not in found:
            found.update(node.output)
            waiting += [producers[name] for name in node.input if name in producers]
    return found


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of the computed FP32 tensors."""
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    return {
        info.name
        for info in inferred.graph.value_info
        if info.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def names_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, also those that its branches read from outside of them."""
    names = set(node.input)
    for inner in _inner_nodes(node):
        names |= names_read(inner)
    return names


def _read_others(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Have a node and its branches read other tensors, by the names of those that they read."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for inner in _inner_nodes(node):
        _read_others(inner, names)


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of its branches."""
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            yield from branch.node


def _used_constants(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], halved: set[str]
) -> list[onnx.TensorProto]:
    """The constants that are still read, and the FP16 copies."""
    import numpy as np
    from onnx import numpy_helper

    read = {name for node in graph.node for name in names_read(node)}
    kept = [tensor for name, tensor in constants.items() if name in read]
    most = np.finfo(np.float16).max
    return kept + [
        numpy_helper.from_array(
            # An infinite weight would make NaN of every 0 that it meets.
            numpy_helper.to_array(constants[name]).clip(-most, most).astype(np.float16),
            f"{name}_half",
        )
        for name in sorted(halved)
    ]


def _replace(field: object, values: list[Any]) -> None:
    """Put other messages into a repeated protobuf field."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]

# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph as TensorRT takes it; the mathematics stay as they are.

- ``images`` is uint8, and all that reads it has to be a Cast (TensorRT's ``DataType.UINT8``). The
  files transpose first, because a quarter of the bytes is moved then. The decoding of an adopted
  network asks for the shape, which is that of the Cast.
- An engine is for one input size, so the input has it. With one number of images too, no layer is
  left that computes shapes.
- No TensorRT dequantises INT32, in which ONNX Runtime's quantiser stores biases: they are FP32.
- TensorRT 8 takes no INT8 constants: kernels have to be FP32, with QuantizeLinear and
  DequantizeLinear behind them (Developer Guide, "Quantized Weights").
- TensorRT 8.5 moves a Clip behind the QuantizeLinear that reads it, and compares its bounds, which
  are values, with steps (docs/gpu.md). A quantizer that saturates at the bound reads a Relu.

It needs no ``onnx`` package, as ``model.stored_weights``. Field numbers are those of
onnx/onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compact_yolo_ros.backends.backend import OUTPUTS
from compact_yolo_ros.model.stored_weights import names_read
from compact_yolo_ros.support.protobuf import Field, read_fields, read_packed, write_field

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER, _GRAPH_INPUT, _VALUE_INFO = 1, 5, 11, 13  # of GraphProto
_INPUT, _OUTPUT, _NODE_NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5  # of NodeProto
_ATTRIBUTE_NAME, _INTEGER = 1, 3  # of AttributeProto
_DIMENSION, _TYPE, _FLOATS, _INTEGERS, _NAME, _RAW_DATA = 1, 2, 4, 5, 8, 9  # of TensorProto
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # of TensorProto.DataType
IMAGES = "images"


@dataclass
class _Node:
    """A NodeProto; ``rest`` is all but its inputs and outputs, encoded."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    rest: bytes

    def encoded(self) -> bytes:
        names = [(_INPUT, name) for name in self.inputs]
        names += [(_OUTPUT, name) for name in self.outputs]
        parts = [write_field(number, name.encode()) for number, name in names]
        return write_field(_NODE, b"".join([*parts, self.rest]))


def _new_node(operator: str, inputs: list[str], outputs: list[str]) -> _Node:
    """A node without attributes, called as its output."""
    name = write_field(_NODE_NAME, outputs[0].encode())
    return _Node(operator, inputs, outputs, name + write_field(_OPERATOR, operator.encode()))


def for_tensorrt(data: bytes, shape: Sequence[int | None], int8_constants: bool) -> bytes:
    """Return an ONNX file that TensorRT takes.

    Args:
        data: the file, its weights plain.
        shape: of ``images``; None where it may vary.
        int8_constants: whether this TensorRT takes kernels in INT8.

    Raises:
        ValueError: the bytes are not an ONNX file, or one that is damaged.
    """
    try:
        return b"".join(
            write_field(_GRAPH, _graph(field.content, shape, int8_constants))
            if field.number == _GRAPH
            else field.encoded
            for field in read_fields(data)
        )
    except IndexError:
        raise ValueError("an operator has too few inputs or outputs") from None


def _graph(graph: memoryview, shape: Sequence[int | None], int8_constants: bool) -> bytes:
    fields = list(read_fields(graph))
    nodes = [_node(field.content) for field in fields if field.number == _NODE]
    constants = {
        _text(field.content, _NAME): field.content
        for field in fields
        if field.number == _INITIALIZER
    }
    _cast_first(nodes)
    _relu_before_quantizers(nodes, constants)
    _take_shape_of_cast(nodes)
    added = _plain_biases(nodes, constants)
    if not int8_constants:
        added += _quantize_kernels(nodes, constants)
    read = _read(nodes)
    kept = [write_field(_INITIALIZER, bytes(constants[name])) for name in constants if name in read]
    # Shapes and types in between are not needed, and no longer right.
    others = (_NODE, _INITIALIZER, _GRAPH_INPUT, _VALUE_INFO)
    rest = [bytes(field.encoded) for field in fields if field.number not in others]
    encoded = [node.encoded() for node in nodes]
    return b"".join([*encoded, *rest, *kept, *added, write_field(_GRAPH_INPUT, _images(shape))])


def _read(nodes: Iterable[_Node]) -> set[str]:
    """What nodes read, and the branches in them."""
    return {name for node in nodes for name in (*node.inputs, *names_read(node.rest))}


def _node(message: memoryview) -> _Node:
    names: dict[int, list[str]] = {_INPUT: [], _OUTPUT: []}
    rest = []
    for field in read_fields(message):
        if field.number in names:
            names[field.number].append(str(field.content, "utf-8"))
        else:
            rest.append(bytes(field.encoded))
    return _Node(_text(message, _OPERATOR), names[_INPUT], names[_OUTPUT], b"".join(rest))


def _cast_first(nodes: list[_Node]) -> None:
    """Exchange the Transpose that reads ``images`` and the Cast that reads the Transpose."""
    for place, transpose in enumerate(nodes):
        if transpose.operator == "Transpose" and transpose.inputs == [IMAGES]:
            (name,) = transpose.outputs
            readers = [number for number, node in enumerate(nodes) if name in node.inputs]
            if len(readers) == 1 and nodes[readers[0]].operator == "Cast":
                cast = nodes[readers[0]]
                transpose.inputs, transpose.outputs = [name], cast.outputs
                cast.inputs, cast.outputs = [IMAGES], [name]
                nodes[place], nodes[readers[0]] = cast, transpose


def _relu_before_quantizers(nodes: list[_Node], constants: Mapping[str, memoryview]) -> None:
    """Have quantizers that saturate where a Clip ends read a Relu, which gives the same steps."""
    clips = {node.outputs[0]: node for node in nodes if node.operator == "Clip"}
    relus: dict[str, str] = {}
    for node in list(nodes):
        clip = clips.get(node.inputs[0]) if node.operator == "QuantizeLinear" else None
        if clip is None or not _saturates_at(clip, node, constants):
            continue
        before, output = clip.inputs[0], clip.outputs[0]
        if output not in relus:
            relus[output] = f"{output}_from_zero"
            nodes.insert(nodes.index(clip), _new_node("Relu", [before], [relus[output]]))
        node.inputs[0] = relus[output]
    unread = relus.keys() - _read(nodes) - set(OUTPUTS)
    nodes[:] = [node for node in nodes if node.outputs[0] not in unread]


def _saturates_at(clip: _Node, quantize: _Node, constants: Mapping[str, memoryview]) -> bool:
    """Whether a quantizer to INT8 gives the same steps without a Clip from 0 before it."""
    names = [*clip.inputs[1:], *quantize.inputs[1:]]
    if len(names) != 4 or not constants.keys() >= set(names):
        return False
    *others, zero_point = (constants[name] for name in names)
    if _integer(zero_point, _TYPE) != _INT8 or _values(zero_point, np.int8).any():
        return False
    lower, upper, scale = (_values(other, np.float32) for other in others)
    ends = np.rint(upper / scale) >= np.iinfo(np.int8).max
    return scale.size == 1 and bool(lower == 0 and ends)


def _take_shape_of_cast(nodes: list[_Node]) -> None:
    """Have what asks for the shape of ``images`` ask for that of their Cast, which comes first."""
    cast = next((n for n in nodes if n.operator == "Cast" and n.inputs == [IMAGES]), None)
    if cast is not None:
        nodes.remove(cast)
        nodes.insert(0, cast)
        for node in nodes:
            if node.operator == "Shape" and node.inputs == [IMAGES]:
                node.inputs = [cast.outputs[0]]


def _plain_biases(nodes: list[_Node], constants: Mapping[str, memoryview]) -> list[bytes]:
    """Compute what is made from INT32 constants; return the new constants."""
    found = [node for node in nodes if _dequantises(node, constants, _INT32)]
    nodes[:] = [node for node in nodes if node not in found]
    return [_exact(node.outputs[0], node, constants, np.int32) for node in found]


def _dequantises(node: _Node, constants: Mapping[str, memoryview], kind: int) -> bool:
    """Whether a node makes real numbers of a constant of a type, by constant scales."""
    if node.operator != "DequantizeLinear" or not constants.keys() >= set(node.inputs[:2]):
        return False
    return _integer(constants[node.inputs[0]], _TYPE) == kind


def _exact(name: str, node: _Node, constants: Mapping[str, memoryview], kind: type) -> bytes:
    """The constant that a DequantizeLinear makes of one; its zero point is 0 for TensorRT."""
    scale = _values(constants[node.inputs[1]], np.float32)
    steps = _values(constants[node.inputs[0]], kind)
    axis = _axis(node) % max(1, steps.ndim)
    along = [-1 if place == axis else 1 for place in range(steps.ndim)]
    product = steps * (scale.reshape(along) if scale.size > 1 else scale)
    return write_field(_INITIALIZER, _tensor(name, product.astype("<f4")))


def _quantize_kernels(nodes: list[_Node], constants: Mapping[str, memoryview]) -> list[bytes]:
    """Have every INT8 constant made from one in FP32, which is exact; return the new constants."""
    added = []
    for node in list(nodes):
        if _dequantises(node, constants, _INT8):
            exact, steps = (f"{node.outputs[0]}_{name}" for name in ("exact", "steps"))
            added.append(_exact(exact, node, constants, np.int8))
            quantize = _Node("QuantizeLinear", [exact, *node.inputs[1:]], [steps], _axis_only(node))
            nodes.insert(nodes.index(node), quantize)
            node.inputs[0] = steps
    return added


def _axis(node: _Node) -> int:
    """The axis of a DequantizeLinear's scales; 1 unless it says another."""
    found = [
        _integer(field.content, _INTEGER)
        for field in read_fields(node.rest)
        if field.number == _ATTRIBUTE and _text(field.content, _ATTRIBUTE_NAME) == "axis"
    ]
    axis = found[0] if found else 1
    return axis if axis < 2**63 else axis - 2**64  # as a negative one is written


def _axis_only(node: _Node) -> bytes:
    """Operator and attributes of the QuantizeLinear before a DequantizeLinear."""
    attributes = [bytes(f.encoded) for f in read_fields(node.rest) if f.number == _ATTRIBUTE]
    return b"".join([write_field(_OPERATOR, b"QuantizeLinear"), *attributes])


def _values(tensor: memoryview, kind: type) -> np.ndarray:
    """A TensorProto of float32, int8 or int32 as an array.

    Raises:
        ValueError: it has not as many values as its shape says.
    """
    fields = list(read_fields(tensor))
    extent = [n for field in fields if field.number == _DIMENSION for n in _integers(field)]
    listed = [n for field in fields if field.number == _INTEGERS for n in _integers(field)]
    raw = b"".join(field.content for field in fields if field.number in (_FLOATS, _RAW_DATA))
    values = np.frombuffer(raw, np.dtype(kind).newbyteorder("<"))
    if listed:
        values = np.array(listed, np.uint64).astype(kind)
    if values.size != math.prod(extent):
        name = _text(tensor, _NAME)
        raise ValueError(f"the constant {name} has other values than its shape says")
    return values.reshape(extent)


def _integers(field: Field) -> Iterable[int]:
    """The numbers of a field that may be one of them, or a packed list."""
    return [field.value] if isinstance(field.value, int) else read_packed(field.value)


def _tensor(name: str, values: np.ndarray) -> bytes:
    """A float TensorProto."""
    extent = [write_field(_DIMENSION, size) for size in values.shape]
    content = [
        write_field(_TYPE, _FLOAT),
        write_field(_NAME, name.encode()),
        write_field(_RAW_DATA, values.tobytes()),
    ]
    return b"".join([*extent, *content])


def _images(shape: Sequence[int | None]) -> bytes:
    """The ValueInfoProto of the input."""
    extent = b"".join(
        write_field(1, write_field(2, b"batch") if size is None else write_field(1, size))
        for size in shape
    )
    tensor_type = write_field(1, _UINT8) + write_field(2, extent)
    return write_field(1, IMAGES.encode()) + write_field(2, write_field(1, tensor_type))


def _integer(message: memoryview, number: int) -> int:
    found = [field.value for field in read_fields(message) if field.number == number]
    return int(found[0]) if found and isinstance(found[0], int) else 0


def _text(message: memoryview, number: int) -> str:
    """Return the text in a field that occurs once; empty without it."""
    texts = (field.content for field in read_fields(message) if field.number == number)
    return str(next(texts, b""), "utf-8")

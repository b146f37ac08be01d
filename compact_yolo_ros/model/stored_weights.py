# SPDX-License-Identifier: Apache-2.0
"""The graph of a model file with every weight in the type that it computes in.

Files of this package store large kernels as float16, each with a Cast to float32 behind it, which
halves them (``training.deployment.weight_storage``). ONNX Runtime and OpenVINO compute these Casts
once, when they open the file. TensorRT 8 takes no convolution whose kernel is the output of a Cast,
and whoever rewrites a graph looks for kernels among its constants: for them the Casts are computed
here. It needs no ``onnx`` package, which an engine in FP32 or INT8 is built without.

Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

import numpy as np

from compact_yolo_ros.support.protobuf import Field, read_fields, write_field

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
_ATTRIBUTE_NAME, _INTEGER, _BRANCH, _BRANCHES = 1, 3, 6, 11  # of AttributeProto
_DIMENSION, _TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_FLOAT, _FLOAT16 = 1, 10  # of TensorProto.DataType


def with_plain_weights(data: bytes) -> bytes:
    """Return an ONNX file with the weights that it stores as float16 as constants in float32.

    Constants that float16 operators read, as those of a file in FP16, stay as they are.

    Raises:
        ValueError: the bytes are not an ONNX file.
    """
    try:
        return b"".join(
            write_field(_GRAPH, _plain_graph(field.content))
            if field.number == _GRAPH
            else field.encoded
            for field in read_fields(data)
        )
    except ValueError:
        raise ValueError("this is not an ONNX file, or it is cut off") from None


def _plain_graph(graph: memoryview) -> bytes:
    """Return a GraphProto whose Casts of constants to float32 were computed."""
    fields = list(read_fields(graph))
    constants = {
        _text(field.content, _NAME)
        for field in fields
        if field.number == _INITIALIZER and _is_half(field.content)
    }
    results: dict[str, list[str]] = {name: [] for name in constants}
    kept: list[Field] = []
    for field in fields:
        source, result = _cast(field.content) if field.number == _NODE else ("", "")
        if source in constants:
            results[source].append(result)
        else:
            kept.append(field)
    read = {name for field in kept if field.number == _NODE for name in names_read(field.content)}
    return b"".join(part for field in kept for part in _plain_field(field, results, read))


def _plain_field(
    field: Field, results: Mapping[str, list[str]], read: Set[str]
) -> Iterator[bytes | memoryview]:
    """Yield what stands for a field of the graph: a constant that was cast gives the results.

    ``results`` are the outputs of Casts by their constant; ``read``, what other nodes read.
    """
    name = _text(field.content, _NAME) if field.number == _INITIALIZER else ""
    names = results.get(name, [])
    if name in read or not names:
        yield field.encoded
    for result in names:
        yield write_field(_INITIALIZER, _widened(field.content, result))


def _is_half(tensor: memoryview) -> bool:
    """Whether a TensorProto holds float16 values as raw bytes, as all tools write them."""
    values = {field.number: field.value for field in read_fields(tensor)}
    return values.get(_TYPE) == _FLOAT16 and _RAW_DATA in values


def _widened(tensor: memoryview, name: str) -> bytes:
    """Return a float16 TensorProto in float32, under another name."""
    fields = list(read_fields(tensor))
    (values,) = (field.content for field in fields if field.number == _RAW_DATA)
    return b"".join(
        (
            *(field.encoded for field in fields if field.number == _DIMENSION),
            write_field(_TYPE, _FLOAT),
            write_field(_NAME, name.encode()),
            write_field(_RAW_DATA, np.frombuffer(values, "<f2").astype("<f4").tobytes()),
        )
    )


def _cast(node: memoryview) -> tuple[str, str]:
    """Return input and output of a NodeProto that is a Cast to float32; else twice nothing."""
    if _text(node, _OPERATOR) != "Cast":
        return "", ""
    types = [
        field.value
        for attribute in read_fields(node)
        if attribute.number == _ATTRIBUTE and _text(attribute.content, _ATTRIBUTE_NAME) == "to"
        for field in read_fields(attribute.content)
        if field.number == _INTEGER
    ]
    return (_text(node, _INPUT), _text(node, _OUTPUT)) if types == [_FLOAT] else ("", "")


def names_read(node: bytes | memoryview) -> Iterator[str]:
    """Names that a NodeProto reads, also those that its branches read from outside of them."""
    for field in read_fields(node):
        if field.number == _INPUT:
            yield str(field.content, "utf-8")
        elif field.number == _ATTRIBUTE:
            parts = read_fields(field.content)
            for branch in (part for part in parts if part.number in (_BRANCH, _BRANCHES)):
                for inner in read_fields(branch.content):
                    if inner.number == _NODE:
                        yield from names_read(inner.content)


def _text(message: memoryview, number: int) -> str:
    """Return the text in a field that occurs once; empty without it."""
    texts = (field.content for field in read_fields(message) if field.number == number)
    return str(next(texts, b""), "utf-8")

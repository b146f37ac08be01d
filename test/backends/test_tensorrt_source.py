# SPDX-License-Identifier: Apache-2.0
"""Graphs as TensorRT takes them answer as before: ONNX Runtime computes both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compact_yolo_ros.backends.tensorrt.source import for_tensorrt
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.model.stored_weights import with_plain_weights

SIDE = 128


def rewritten(name: str, shape: tuple[int | None, ...], int8_constants: bool = False) -> bytes:
    data = with_plain_weights(find_model(name).path.read_bytes())
    changed = for_tensorrt(data, shape, int8_constants)
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    return changed


def answers(model: bytes) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    return list(session.run(None, {"images": image}))


def test_it_answers_alike() -> None:
    name = "yolo_ret_m075_int8"  # it has all that is changed
    original = answers(Path(find_model(name).path).read_bytes())
    changed = rewritten(name, (1, SIDE, SIDE, 3))
    for found, expected in zip(answers(changed), original, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    graph = onnx.load_from_string(changed).graph
    assert [node.op_type for node in graph.node if "images" in node.input] == ["Cast"]
    (images,) = graph.input
    kind = images.type.tensor_type
    assert kind.elem_type == TensorProto.UINT8
    assert [size.dim_value for size in kind.shape.dim] == [1, SIDE, SIDE, 3]


def clipped(upper: float, scale: float, zero_point: int = 0, read: bool = False) -> onnx.ModelProto:
    """A Clip from 0, a quantizer that reads it, and perhaps another reader."""
    values = {"zero": 0.0, "upper": upper, "scale": scale}
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in values.items()]
    constants.append(numpy_helper.from_array(np.int8(zero_point), "point"))
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Clip", ["pixels", "zero", "upper"], ["clipped"]),
        helper.make_node("QuantizeLinear", ["clipped", "scale", "point"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "point"], ["boxes"]),
        helper.make_node("Neg", ["clipped" if read else "boxes"], ["scores"]),
    ]
    shape = [1, SIDE, SIDE, 3]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, shape)
    names = ("boxes", "scores")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    graph = helper.make_graph(nodes, "clipped", [given], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"upper": 6.0, "scale": 6 / 127}, {"Relu"}),
        ({"upper": 6.0, "scale": 3.3 / 127}, {"Relu"}),  # no value was larger
        ({"upper": 6.0, "scale": 6 / 127, "read": True}, {"Relu", "Clip"}),
        ({"upper": 6.0, "scale": 6 / 126}, {"Clip"}),  # here the bound counts
        ({"upper": 6.0, "scale": 6 / 127, "zero_point": -128}, {"Clip"}),
    ],
)
def test_a_quantizer_that_saturates_where_a_clip_ends_reads_a_relu(
    changes: dict[str, float], kinds: set[str]
) -> None:
    model = clipped(**changes).SerializeToString()
    changed = for_tensorrt(model, (1, SIDE, SIDE, 3), int8_constants=False)
    for found, expected in zip(answers(changed), answers(model), strict=True):
        np.testing.assert_array_equal(found, expected)
    graph = onnx.load_from_string(changed).graph
    assert {node.op_type for node in graph.node} & {"Relu", "Clip"} == kinds
    (reader,) = (node for node in graph.node if node.op_type == "QuantizeLinear")
    assert ("Relu" in kinds) == (reader.input[0] != "clipped")


def test_no_quantizer_of_a_shipped_file_reads_a_clip() -> None:
    graph = onnx.load_from_string(rewritten("yolo_ret_m075_int8", (1, SIDE, SIDE, 3))).graph
    clips = {node.output[0] for node in graph.node if node.op_type == "Clip"}
    assert not clips & {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}


def test_int8_kernels_are_quantised_from_fp32_where_int8_constants_are_refused() -> None:
    graph = onnx.load_from_string(rewritten("yolo_ret_m075_int8", (None, SIDE, SIDE, 3))).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    zeros = {n.input[2] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {t.name for t in graph.initializer if t.data_type == TensorProto.INT8} <= zeros
    kernels = {n.input[1] for n in graph.node if n.op_type == "Conv"}
    dequantised = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    quantised = {n.output[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    assert {dequantised[name] for name in kernels & set(dequantised)} <= quantised
    assert kernels & set(dequantised)


@pytest.mark.parametrize("scales", [(0.5, 0.5), (0.5, 0.25)])
def test_an_int8_constant_may_be_dequantised_twice(scales: tuple[float, float]) -> None:
    """As a kernel of two heads, or one of which a tool has removed its equals."""
    constants = [numpy_helper.from_array(np.array([1, 2, 3], np.int8), "steps")]
    constants += [numpy_helper.from_array(np.float32(n), f"scale{i}") for i, n in enumerate(scales)]
    nodes = [helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT)]
    for number, output in enumerate(("boxes", "scores")):
        exact = f"values{number}"
        nodes.append(helper.make_node("DequantizeLinear", ["steps", f"scale{number}"], [exact]))
        nodes.append(helper.make_node("Add", ["pixels", exact], [output]))
    shape = [1, SIDE, SIDE, 3]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, shape)
    names = ("boxes", "scores")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    graph = helper.make_graph(nodes, "shared", [given], outputs, constants)
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    changed = for_tensorrt(model, tuple(shape), int8_constants=False)
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    for found, expected in zip(answers(changed), answers(model), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_newer_versions_get_int8_kernels_as_they_are() -> None:
    graph = onnx.load_from_string(
        rewritten("yolo_ret_m075_int8", (1, SIDE, SIDE, 3), int8_constants=True)
    ).graph
    assert {"Conv", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    assert any(t.data_type == TensorProto.INT8 and len(t.dims) == 4 for t in graph.initializer)


def with_lists(data: bytes, axis: int = 0) -> bytes:
    """The file with its values in lists of numbers, as ONNX Runtime's quantiser writes scales.

    The largest kernels stay as they are: a list of them takes a second, and is read as any other.
    """
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        small = np.prod(tensor.dims) <= 4096
        if small and tensor.data_type in (TensorProto.FLOAT, TensorProto.INT8):
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(
                helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.flatten())
            )
            assert not tensor.HasField("raw_data")
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "DequantizeLinear" and attribute.name == "axis":
                attribute.i = axis
    return model.SerializeToString()


@pytest.mark.parametrize("axis", [0, -4])
def test_values_may_be_in_lists(axis: int) -> None:
    name = "yolo_ret_m075_int8"
    data = with_plain_weights(find_model(name).path.read_bytes())
    listed = for_tensorrt(with_lists(data, axis), (1, SIDE, SIDE, 3), int8_constants=False)
    onnx.checker.check_model(onnx.load_from_string(listed), full_check=True)
    for found, expected in zip(answers(listed), answers(data), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("int8_constants", [False, True])
def test_int32_biases_become_fp32(int8_constants: bool) -> None:
    """ONNX Runtime's quantiser writes them unless it is told not to; TensorRT takes INT8 only."""
    model = onnx.load_from_string(
        with_plain_weights(find_model("yolo_ret_m075_int8").path.read_bytes())
    )
    exact = onnx.ModelProto.FromString(model.SerializeToString())
    sums = {tensor.name: tensor for tensor in exact.graph.initializer}
    graph, nodes, count = model.graph, [], 0
    biases = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        bias = biases.get(node.input[-1]) if node.op_type == "Conv" else None
        if bias is not None and len(node.input) == 3:
            values = numpy_helper.to_array(bias)
            steps = np.float32(np.abs(values).reshape(-1, 1).max(1) / 2**20 + 1e-9)
            steps = steps if count % 2 else steps.max()  # for each channel, and for all
            whole = np.rint(values / steps).astype(np.int32)
            sums[bias.name].CopyFrom(numpy_helper.from_array(np.float32(whole * steps), bias.name))
            for name, content in (("whole", whole), ("steps", steps)):
                graph.initializer.append(numpy_helper.from_array(content, f"{name}{count}"))
            inputs, output = [f"whole{count}", f"steps{count}"], f"bias{count}"
            nodes.append(helper.make_node("DequantizeLinear", inputs, [output], axis=0))
            node.input[2] = output
            count += 1
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    assert count > 1
    changed = for_tensorrt(model.SerializeToString(), (1, SIDE, SIDE, 3), int8_constants)
    found = onnx.load_from_string(changed).graph
    assert not [t.name for t in found.initializer if t.name.startswith("whole")]
    plain = for_tensorrt(exact.SerializeToString(), (1, SIDE, SIDE, 3), int8_constants)
    for ours, expected in zip(answers(changed), answers(plain), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_constant_without_values_is_one_sentence() -> None:
    model = onnx.load(find_model("yolo_ret_m075_int8").path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4:
            tensor.ClearField("raw_data")
    data = with_plain_weights(model.SerializeToString())
    with pytest.raises(ValueError, match="the constant .* has other values than its shape says"):
        for_tensorrt(data, (1, SIDE, SIDE, 3), int8_constants=False)


@pytest.mark.parametrize("kind", ["QuantizeLinear", "Clip"])
def test_an_operator_without_inputs_and_outputs_is_one_sentence(kind: str) -> None:
    """As in a file that is damaged."""
    model = clipped(upper=6.0, scale=6 / 127)
    (node,) = (node for node in model.graph.node if node.op_type == kind)
    del node.input[:], node.output[:]
    with pytest.raises(ValueError, match="an operator has too few inputs or outputs"):
        for_tensorrt(model.SerializeToString(), (1, SIDE, SIDE, 3), int8_constants=False)

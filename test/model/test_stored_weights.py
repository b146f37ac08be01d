# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compact_yolo_ros.model.stored_weights import with_plain_weights

KERNEL = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float16)
IMAGE = np.random.default_rng(1).random((1, 3, 8, 8), np.float32)


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"key": "value"})
    onnx.checker.check_model(model, full_check=True)
    return model


def cast(source: str, result: str, to: int = TensorProto.FLOAT) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], to=to)


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.load_from_string(with_plain_weights(model.SerializeToString()))
    onnx.checker.check_model(changed, full_check=True)
    return changed


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"image": IMAGE})[0])


def test_a_stored_kernel_becomes_a_constant() -> None:
    convolution = helper.make_node("Conv", ["image", "kernel"], ["map"])
    model = graph_of([cast("half", "kernel"), convolution], half=KERNEL)
    changed = plain(model)
    assert [node.op_type for node in changed.graph.node] == ["Conv"]
    (kernel,) = changed.graph.initializer
    assert (kernel.name, kernel.data_type) == ("kernel", TensorProto.FLOAT)
    np.testing.assert_array_equal(numpy_helper.to_array(kernel), KERNEL.astype(np.float32))
    np.testing.assert_array_equal(run(changed), run(model))
    changed.graph.ClearField("node")
    changed.graph.ClearField("initializer")
    model.graph.ClearField("node")
    model.graph.ClearField("initializer")
    assert changed == model, "card, inputs and outputs are kept"


def test_a_constant_that_others_read_as_float16_stays() -> None:
    nodes = [
        cast("half", "kernel"),
        helper.make_node("Conv", ["image", "kernel"], ["sums"]),
        helper.make_node("Abs", ["half"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["largest"]),
        cast("largest", "scale"),
        helper.make_node("Mul", ["sums", "scale"], ["map"]),
    ]
    model = graph_of(nodes, half=KERNEL)
    changed = plain(model)
    assert {tensor.name for tensor in changed.graph.initializer} == {"half", "kernel"}
    assert [node.op_type for node in changed.graph.node].count("Cast") == 1
    np.testing.assert_array_equal(run(changed), run(model))


def test_other_casts_stay() -> None:
    nodes = [
        cast("half", "whole", TensorProto.INT32),
        cast("whole", "kernel"),
        helper.make_node("Conv", ["image", "kernel"], ["map"]),
    ]
    model = graph_of(nodes, half=KERNEL)
    assert plain(model) == model


def test_what_is_no_onnx_file_is_refused() -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        with_plain_weights(b"no model")

# SPDX-License-Identifier: Apache-2.0
"""A detector that can be computed by hand, as a real ONNX file of the package's contract.

It averages 16 x 16 pixel cells of the input. A cell is a candidate box; its score is the mean of
its brightest channel / 255, its label that channel (0 red, 1 green, 2 blue). So a test paints a
coloured square on black and knows what must be found.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.model.card import METADATA_KEY, ModelCard

CELL = 16
CLASSES = ("red", "green", "blue")
CARD = ModelCard(name="toy", detector="toy", classes=CLASSES, default_size=320)


def write_toy_model(path: Path, card: ModelCard | None = CARD) -> Path:
    """Write the toy detector to ``path``, with ``card`` in its metadata."""
    model = helper.make_model(_graph(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def write_quantized(path: Path) -> Path:
    """The toy detector with Q/DQ nodes on its large tensors."""
    model = onnx.load(write_toy_model(path, replace(CARD, precision="int8")))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for name in set(node.output) & {"floats", "planes", "means"}:
            for reader in model.graph.node:
                for place, read in enumerate(reader.input):
                    if read == name:
                        reader.input[place] = f"{name}_dq"
            for kind, source, target in (
                ("QuantizeLinear", name, f"{name}_q"),
                ("DequantizeLinear", f"{name}_q", f"{name}_dq"),
            ):
                nodes.append(helper.make_node(kind, [source, "scale", "zero"], [target]))
    constants = {"scale": np.float32(2.0), "zero": np.int8(0)}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model.graph.initializer.extend(tensors)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def write_half(path: Path) -> Path:
    """The toy detector in FP16, as an FP16 export that was adopted."""
    data = write_toy_model(path, replace(CARD, precision="fp16")).read_bytes()
    path.write_bytes(to_half(data))
    return path


def write_altered(
    path: Path, output: str, kind: str, *values: np.ndarray, **attributes: Any
) -> str:
    """Write the toy detector with one more operator behind an output."""
    model = onnx.load(write_toy_model(path))
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
    names = [f"value{place}" for place in range(len(values))]
    model.graph.initializer.extend(map(numpy_helper.from_array, values, names))
    model.graph.node.append(
        helper.make_node(kind, [f"{output}_before", *names], [output], **attributes)
    )
    (info,) = (info for info in model.graph.output if info.name == output)
    if kind == "Cast":
        info.type.tensor_type.elem_type = attributes["to"]
    if kind == "Pad":
        info.type.tensor_type.shape.dim[2].dim_value = 5
    onnx.save(model, path)
    return str(path)


def write_store(directory: Path) -> Path:
    """Write a folder of models with a manifest, holding the toy detector as ``toy``."""
    path = write_toy_model(directory / "toy.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"toy": {"file": path.name, "sha256": digest}}
    (directory / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return directory


def _graph() -> onnx.GraphProto:
    constants = {
        "to_unit": np.float32(1 / 255),
        "k": np.array([300], np.int64),
        "three": np.int64(3),
        "cell": np.float32(CELL),
        "last": np.array([-1], np.int64),
        "flat_channels": np.array([0, 3, -1], np.int64),
        "corners": np.array([0, 0, CELL, CELL], np.float32),
    }

    def node(kind: str, inputs: list[str], outputs: list[str], **attributes: object):
        return helper.make_node(kind, inputs, outputs, **attributes)

    nodes = [
        node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["planes"], ["means"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        node("Mul", ["means", "to_unit"], ["levels"]),
        node("Reshape", ["levels", "flat_channels"], ["cells"]),
        node("ReduceMax", ["cells"], ["best"], axes=[1], keepdims=0),
        node("ArgMax", ["cells"], ["channel"], axis=1, keepdims=0),
        node("TopK", ["best", "k"], ["scores", "places"], axis=1),
        node("GatherElements", ["channel", "places"], ["labels64"], axis=1),
        node("Cast", ["labels64"], ["labels"], to=TensorProto.INT32),
        # Cell number -> its box: column and row of the cell from the width in cells.
        node("Shape", ["levels"], ["shape"]),
        node("Gather", ["shape", "three"], ["columns"]),
        node("Mod", ["places", "columns"], ["x"]),
        node("Div", ["places", "columns"], ["y"]),
        node("Unsqueeze", ["x", "last"], ["x1"]),
        node("Unsqueeze", ["y", "last"], ["y1"]),
        node("Concat", ["x1", "y1", "x1", "y1"], ["corner_cells"], axis=-1),
        node("Cast", ["corner_cells"], ["corner_floats"], to=TensorProto.FLOAT),
        node("Mul", ["corner_floats", "cell"], ["origins"]),
        node("Add", ["origins", "corners"], ["boxes"]),
    ]
    initializers = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    ]
    return helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["batch", "height", "width", 3]
            )
        ],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 300, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 300]),
            helper.make_tensor_value_info("labels", TensorProto.INT32, ["batch", 300]),
        ],
        initializers,
    )

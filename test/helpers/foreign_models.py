# SPDX-License-Identifier: Apache-2.0
"""Small networks with the inputs and outputs of other projects' exports, as real ONNX files.

Each averages cells of the image and draws random linear functions of them: weak as detectors, but
every value depends on the pixels, their order and their range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


class Graph:
    """A graph that grows."""

    def __init__(
        self,
        size: tuple[int, int] | None = (160, 192),
        *,
        opset: int = 17,
        half: bool = False,
        name: str = "images",
        seed: int = 0,
        one_image: bool = False,
    ) -> None:
        """Take images (height, width); None: of any size. ``one_image`` is written into shapes."""
        self.size, self.opset, self.half, self.name = size, opset, half, name
        self.rows = 1 if one_image else 0
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT

    def op(self, kind: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        names = [
            value if isinstance(value, str) else self.constant(np.asarray(value))
            for value in inputs
        ]
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        if values.dtype in (np.float32, np.float64):
            values = values.astype(np.float16 if self.half else np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def grid_map(self, stride: int, features: int, scale: float = 2.0) -> str:
        """A map (N, features, H / stride, W / stride)."""
        sides = [stride, stride]
        means = self.op("AveragePool", self.name, kernel_shape=sides, strides=sides)
        weights = self.random.normal(0, scale, (features, 3, 1, 1))
        return self.op("Conv", means, weights, self.random.normal(0, 0.5, features))

    def flat(self, level: str, features: int) -> str:
        """The map (N, F, h, w) as rows (N, h * w, F)."""
        rows = self.op("Reshape", level, np.array([self.rows, features, -1]))
        return self.op("Transpose", rows, perm=[0, 2, 1])

    def part(self, tensor: str, begin: int, end: int, axis: int = 2) -> str:
        return self.op("Slice", tensor, *(np.array([n]) for n in (begin, end, axis)))

    def either(self, tensor: str, factors: np.ndarray) -> str:
        """The product, in one of two branches, which read both from outside."""
        constant = self.constant(factors)
        branches = []
        for name in ("many", "few"):
            product = helper.make_node("Mul", [tensor, constant], [name])
            info = helper.make_tensor_value_info(name, self.kind, None)
            branches.append(helper.make_graph([product], name, [], [info]))
        rows = self.op("Gather", self.op("Shape", tensor), np.array(1))
        are_many = self.op("Greater", rows, np.array(9))
        return self.op("If", are_many, then_branch=branches[0], else_branch=branches[1])

    def write(
        self,
        path: Path,
        outputs: Mapping[str, str],
        metadata: Mapping[str, str] | None = None,
        kinds: Mapping[str, int] | None = None,
    ) -> Path:
        """Write the file; ``outputs`` are tensors by their final names."""
        for name, tensor in outputs.items():
            self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        shape: Sequence[Any] = (1, 3, *self.size) if self.size else ("n", 3, "h", "w")
        infos = [
            helper.make_tensor_value_info(name, (kinds or {}).get(name, self.kind), None)
            for name in outputs
        ]
        image = helper.make_tensor_value_info(self.name, self.kind, shape)
        graph = helper.make_graph(self.nodes, "foreign", [image], infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        helper.set_model_props(model, dict(metadata or {}))
        onnx.save(model, path)
        return path


def cells(size: tuple[int, int], per_cell: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (A, 2) of the cells, and their strides (A, 1), anchors outermost."""
    height, width = size
    places, strides = [], []
    for stride in STRIDES:
        grid = [(x, y) for y in range(height // stride) for x in range(width // stride)]
        places += grid * per_cell
        strides += [(stride,)] * len(grid) * per_cell
    return np.array(places, np.float32), np.array(strides, np.float32)


def yolox(
    path: Path,
    classes: int = 4,
    decoded: bool = False,
    objectness: bool = True,
    constant_map: bool = False,
    **options: Any,
) -> Path:
    """(N, A, 5 + C): offsets, or boxes in pixels; probabilities. Without objectness it is 1."""
    graph = Graph(**options)
    features = 5 + classes  # of pixels from 0 to 255, so the functions are weak
    maps = [graph.grid_map(stride, features, 0.01) for stride in STRIDES]
    if constant_map:
        maps[0] = graph.op("Add", maps[0], graph.random.normal(0, 0.1, (1, 1, 20, 24)))
    rows = [graph.flat(level, features) for level in maps]
    joined = graph.op("Concat", *rows, axis=1)
    boxes, scores = graph.part(joined, 0, 4), graph.part(joined, 4, 5 + classes)
    if decoded:
        places, strides = cells(graph.size or (0, 0))
        centres = graph.op("Add", graph.part(boxes, 0, 2), places)
        sizes = graph.op("Exp", graph.part(boxes, 2, 4))
        boxes = graph.op("Mul", graph.op("Concat", centres, sizes, axis=2), strides)
    scores = graph.op("Sigmoid", scores)
    if not objectness:
        scores = graph.op("Max", scores, np.array([1.0] + [0.0] * classes))
    output = graph.op("Concat", boxes, scores, axis=2)
    return graph.write(path, {"output": output})


def yolov5(path: Path, classes: int = 4, metadata: Mapping[str, str] | None = None) -> Path:
    """(N, 3 * A, 5 + C), decoded, anchors outermost; the three maps are outputs too."""
    graph = Graph()
    features = 5 + classes
    maps = [graph.flat(graph.grid_map(s, features), features) for s in STRIDES for _ in range(3)]
    rows = graph.op("Sigmoid", graph.op("Concat", *maps, axis=1))
    places, strides = cells(graph.size or (0, 0), 3)
    anchors = graph.random.uniform(1, 4, (len(places), 2))
    centres = graph.op("Mul", graph.op("Add", graph.part(rows, 0, 2), places), strides)
    sizes = graph.op("Mul", graph.part(rows, 2, 4), anchors * strides)
    rest = graph.part(rows, 4, features)
    output = graph.op("Concat", centres, sizes, rest, axis=2)
    raw = graph.op("Reshape", maps[0], np.array([1, 1, 20, 24, features]))
    return graph.write(path, {"output0": output, "371": raw}, metadata)


def yolov8(
    path: Path,
    classes: int = 4,
    metadata: Mapping[str, str] | None = None,
    turned: bool = True,
    fractions: bool = False,
    masks: bool = False,
    branches: bool = False,
    **options: Any,
) -> Path:
    """(N, 4 + C, A), boxes in pixels or as fractions; ``masks`` adds what segmentation has.

    With ``branches`` a condition decides how boxes are multiplied by their strides, as in scripts.
    """
    graph = Graph(**options)
    more = 32 * masks
    rows = [graph.flat(graph.grid_map(s, 4 + classes + more), 4 + classes + more) for s in STRIDES]
    joined = graph.op("Sigmoid", graph.op("Concat", *rows, axis=1))
    places, strides = cells(graph.size or (0, 0))
    centres = graph.op("Add", graph.part(joined, 0, 2), places)
    boxes = graph.op("Concat", centres, graph.part(joined, 2, 4), axis=2)
    boxes = graph.either(boxes, strides) if branches else graph.op("Mul", boxes, strides)
    if fractions:
        height, width = graph.size or (0, 0)
        boxes = graph.op("Div", boxes, np.array([width, height, width, height], np.float32))
    output = graph.op("Concat", boxes, graph.part(joined, 4, 99), axis=2)
    if turned:
        output = graph.op("Transpose", output, perm=[0, 2, 1])
    outputs = {"output0": output}
    if masks:
        outputs["output1"] = graph.grid_map(4, 32)
    return graph.write(path, outputs, metadata)


def yolov10(path: Path, metadata: Mapping[str, str] | None = None, fractions: bool = False) -> Path:
    """(N, 30, 6): finished objects, corners in pixels, or cx, cy, w, h as fractions."""
    graph = Graph()
    rows = graph.op("Sigmoid", graph.flat(graph.grid_map(32, 6), 6))
    first, size = graph.part(rows, 0, 2), graph.part(rows, 2, 4)
    boxes = graph.op("Concat", first, graph.op("Add", first, size), axis=2)
    if fractions:
        boxes = graph.part(rows, 0, 4)
    else:
        boxes = graph.op("Mul", boxes, np.array([96.0, 80, 96, 80]))
    labels = graph.op("Floor", graph.op("Mul", graph.part(rows, 5, 6), np.array(3.999)))
    output = graph.op("Concat", boxes, graph.part(rows, 4, 5), labels, axis=2)
    return graph.write(path, {"output0": output}, metadata)


def with_nms(path: Path, threshold: float, metadata: Mapping[str, str] | None = None) -> Path:
    """(N, 30, 6) as by ``export(nms=True)`` of Ultralytics: rows below a score are zeros.

    The score is high where the image is bright.
    """
    graph = Graph()
    means = graph.op("AveragePool", graph.name, kernel_shape=[32, 32], strides=[32, 32])
    weights = graph.random.normal(0, 2, (3, 3, 1, 1))
    values = graph.op("Sigmoid", graph.flat(graph.op("Conv", means, weights), 3))
    first, labels = graph.part(values, 0, 2), graph.part(values, 2, 3)
    boxes = graph.op("Concat", first, graph.op("Add", first, np.array(0.5)), axis=2)
    boxes = graph.op("Mul", boxes, np.array([96.0, 80, 96, 80]))
    labels = graph.op("Floor", graph.op("Mul", labels, np.array(3.999)))
    bright = graph.flat(graph.op("ReduceMean", means, axes=[1]), 1)
    bright = graph.op("Mul", graph.op("Sub", bright, np.array(0.5)), np.array(20.0))
    scores = graph.op("Sigmoid", bright)
    kept = graph.op("Greater", scores, np.array(threshold))
    kept = graph.op("Cast", kept, to=TensorProto.FLOAT)
    rows = graph.op("Concat", boxes, scores, labels, axis=2)
    return graph.write(path, {"output0": graph.op("Mul", rows, kept)}, metadata)


def detr(
    path: Path,
    form: str,
    classes: int = 4,
    metadata: Mapping[str, str] | None = None,
    half: bool = False,
    constant_map: bool = False,
) -> Path:
    """30 queries: ``pair`` of boxes and logits, with the names of ``rf``, or ``joined`` ones."""
    graph = Graph(half=half)
    level = graph.grid_map(32, 4 + classes)
    if constant_map:
        level = graph.op("Add", level, graph.random.normal(0, 0.1, (1, 1, 5, 6)))
    rows = graph.flat(level, 4 + classes)
    boxes = graph.op("Sigmoid", graph.part(rows, 0, 4))
    scores = graph.part(rows, 4, 4 + classes)
    if form == "joined":
        joined = graph.op("Concat", boxes, graph.op("Sigmoid", scores), axis=2)
        return graph.write(path, {"output0": joined}, metadata)
    if form == "rf":
        return graph.write(path, {"dets": boxes, "labels": scores}, metadata)
    return graph.write(path, {"logits": scores, "pred_boxes": boxes}, metadata)


def finished_detr(path: Path, metadata: Mapping[str, str]) -> Path:
    """As RT-DETR and D-FINE export themselves: labels, boxes and scores, given the image's size."""
    graph = Graph()
    rows = graph.op("Sigmoid", graph.flat(graph.grid_map(32, 6), 6))
    sides = graph.op("Cast", "orig_target_sizes", to=TensorProto.FLOAT)
    sides = graph.op("Unsqueeze", graph.op("Concat", sides, sides, axis=1), np.array([1]))
    boxes = graph.op("Mul", graph.part(rows, 0, 4), sides)
    last = np.array([2])
    labels = graph.op("Mul", graph.op("Squeeze", graph.part(rows, 5, 6), last), np.array(3.999))
    outputs = {
        "labels": graph.op("Cast", labels, to=TensorProto.INT64),
        "boxes": boxes,
        "scores": graph.op("Squeeze", graph.part(rows, 4, 5), last),
    }
    graph.write(path, outputs, metadata, {"labels": TensorProto.INT64})
    model = onnx.load(path)
    sizes = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2])
    model.graph.input.append(sizes)
    onnx.save(model, path)
    return path


def raw_maps(
    path: Path,
    per_cell: int,
    classes: int = 4,
    five_axes: bool = False,
    scale: float = 2.0,
    **options: Any,
) -> Path:
    """Maps (N, B * (5 + C), h, w), or (N, B, h, w, 5 + C) as in YOLOv5."""
    graph = Graph(**options)
    features = 5 + classes
    outputs = {}
    for stride in reversed(STRIDES):  # darknet begins with the coarsest
        level = graph.grid_map(stride, per_cell * features, scale)
        if five_axes:
            height, width = (side // stride for side in graph.size or (0, 0))
            level = graph.op("Reshape", level, np.array([0, per_cell, features, height, width]))
            level = graph.op("Transpose", level, perm=[0, 1, 3, 4, 2])
        outputs[f"map{stride}"] = level
    return graph.write(path, outputs)


def yolov2(path: Path, per_cell: int, classes: int = 4, **options: Any) -> Path:
    """A map (N, B * (5 + C), h, w) of one stride, what darknet's region layer reads."""
    graph = Graph(**options)
    return graph.write(path, {"grid": graph.grid_map(32, per_cell * (5 + classes))})


def decoded_yolov4(path: Path) -> Path:
    """Boxes xyxy as fractions (N, A, 1, 4) and scores (N, A, C)."""
    graph = Graph()
    rows = [graph.flat(graph.grid_map(s, 8), 8) for s in STRIDES]
    joined = graph.op("Sigmoid", graph.op("Concat", *rows, axis=1))
    boxes = graph.op("Unsqueeze", graph.part(joined, 0, 4), np.array([2]))
    return graph.write(path, {"boxes": boxes, "confs": graph.part(joined, 4, 8)})

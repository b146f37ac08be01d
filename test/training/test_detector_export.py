# SPDX-License-Identifier: Apache-2.0
"""Every detector leaves as the same kind of file, and that file computes what PyTorch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn import enliven
from exact_export import export_exactly
from kinds import KINDS, shorter
from torch import nn

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import Size
from training.deployment.predictor import CANDIDATES, Predictor
from training.detectors.anchor_grid import output_layer
from training.studies.prune import STEPS, layers, without

CLASSES = ("cat", "dog", "bird")
# One of each kind of head and of each kind of block; the others are slow.
QUICK = {"yolo_fastest", "tinier_yolo", "micro_yolo", "yolov4_tiny_3l_rfcr", "tiny_yolov2"}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
# (images, height, width): the smallest square, and a non-square one
INPUTS = [(1, 160, 160), (2, 160, 256)]
# What all runtimes read: operators in the table of onnx-tensorrt (docs/operators.md, read for
# TensorRT 8.6 and 10.1; later versions have only added to it), without a restriction that concerns
# their use here, and in the table of OpenVINO (src/frontends/onnx/docs/supported_ops.md).
ALLOWED = {
    "Add", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Conv", "Div", "Equal", "Exp", "Expand", "Gather", "GatherElements", "GlobalAveragePool",
    "LeakyRelu", "MaxPool", "Min", "Mul", "Pad", "Range", "ReduceMax", "Relu", "Reshape",
    "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze", "Sub",
    "Sum", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def lively(name: str) -> nn.Module:
    """A detector of outputs that differ from place to place, every layer pruned by a step."""
    torch.manual_seed(0)
    variant = shorter(name)
    for layer, width in layers(variant.graph(len(CLASSES))).items():
        variant = without(variant, layer, -(-width // STEPS), len(CLASSES))
    detector = variant.build(len(CLASSES)).eval()
    enliven(detector)
    images = torch.from_numpy(patterns(2, 160, 160)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        for head, level in zip(last(detector), detector(images), strict=True):
            head.weight /= level.std() + 1e-6
            if head.bias is not None:
                head.bias.normal_()
    return detector


def patterns(count: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (count, height // 16, width // 16, 3))
    return coarse.repeat(16, 1).repeat(16, 2).astype(np.uint8)


def last(detector: nn.Module) -> list[nn.Module]:
    outputs = output_layer(1, detector.grid, detector.num_classes).out_channels
    convolutions = [m for m in detector.modules() if isinstance(m, nn.Conv2d)]
    heads = [m for m in convolutions if m.out_channels == outputs and m.kernel_size == (1, 1)]
    return heads[-len(detector.grid.strides) :]


@pytest.fixture(scope="module", params=NAMES)
def exported(request, tmp_path_factory) -> tuple[nn.Module, Path]:
    torch.set_num_threads(1)
    detector = lively(request.param)
    path = tmp_path_factory.mktemp("export") / f"{request.param}.onnx"
    card = ModelCard(request.param, request.param, CLASSES, default_size=160)
    export_exactly(detector, path, card)
    return detector, path


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_export_equals_pytorch(exported):
    detector, path = exported
    session = open_session(path)
    for shape in INPUTS:
        images = patterns(*shape)
        boxes, scores, labels = session.run(None, {"images": images})
        with torch.no_grad():
            theirs = [t.numpy() for t in Predictor(detector)(torch.from_numpy(images))]
        assert boxes.shape == (shape[0], CANDIDATES, 4) and boxes.dtype == np.float32
        assert scores.shape == labels.shape == (shape[0], CANDIDATES)
        assert labels.dtype == np.int32
        np.testing.assert_allclose(scores, theirs[1], rtol=0, atol=1e-4)
        assert np.ptp(scores) > 0.05, "the comparison needs scores that differ"
        for ours, other in zip(
            zip(boxes, scores, labels, strict=True), zip(*theirs, strict=True), strict=True
        ):
            assert_same_candidates(ours, other)


def assert_same_candidates(ours, theirs):
    """Nearly equal scores may swap places, the last ones may be others; all else is the same."""
    boxes, scores, labels = ours
    other_boxes, other_scores, other_labels = theirs
    safe = scores > max(scores[-1], other_scores[-1]) + 1e-4
    assert safe.any()
    near = np.abs(scores[safe, None] - other_scores[None]) < 1e-4
    same_label = labels[safe, None] == other_labels[None]
    # a box is a size times an exponential: its error is relative to that size
    sizes = (other_boxes[:, 2:] - other_boxes[:, :2]).max(1).clip(min=32)
    gap = np.abs(boxes[safe, None] - other_boxes[None]).max(-1)
    equal = gap <= 1e-4 * sizes
    assert (near & same_label & equal).any(1).all()


def test_graph_has_only_operators_that_every_runtime_reads(exported):
    model = onnx.load(exported[1])
    used = {node.op_type for node in model.graph.node}
    assert used <= ALLOWED, f"not read by TensorRT or OpenVINO: {used - ALLOWED}"
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


def test_normalisation_is_folded_and_nothing_is_left_over(exported):
    graph = onnx.load(exported[1]).graph
    operators = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in operators
    assert not {"Identity", "Dropout"} & set(operators)
    convolutions = [m for m in exported[0].modules() if isinstance(m, nn.Conv2d)]
    assert operators.count("Conv") == len(convolutions)
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


def test_file_runs_in_the_detector(exported):
    with_card = Detector.open(
        RunOptions(str(exported[1]), threads=1, input_sizes=(Size(192, 160),))
    )
    try:
        assert with_card.card.classes == CLASSES
        found = with_card.detect(np.full((120, 200, 3), 90, np.uint8))
        assert found.boxes.shape == (len(found.scores), 4)
        assert ((found.boxes >= 0) & (found.boxes <= [200, 120, 200, 120])).all()
    finally:
        with_card.close()

# SPDX-License-Identifier: Apache-2.0
"""A model that puts out something else than the contract says is refused when it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from toy_model import CARD, write_altered, write_toy_model

from compact_yolo_ros.backends import BackendError, RunOptions, open_backend
from compact_yolo_ros.backends.outputs import check_outputs
from compact_yolo_ros.model.sizes import Size

CLASSES, COUNT = 3, 4


def outputs(**changes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs for two images as they should be, but for ``changes``."""
    right = {
        "boxes": np.zeros((2, COUNT, 4), np.float32),
        "scores": np.array([[1.0, 0.5, 0.5, 0.0]] * 2, np.float32),
        "labels": np.array([[0, 1, 2, 2]] * 2, np.int32),
    }
    boxes, scores, labels = (right | changes).values()
    return boxes, scores, labels


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": np.full((2, COUNT), 2, np.int64)},
        {"scores": np.full((2, COUNT), 1.0005, np.float32)},
        {"boxes": np.full((2, COUNT, 4), -1e6, np.float32)},
        {"scores": np.array([[0.2] * 4, [0.9] * 4], np.float32)},  # each image on its own
    ],
)
def test_outputs_of_the_contract_pass(changes: dict[str, np.ndarray]) -> None:
    check_outputs(outputs(**changes), 2, CLASSES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": np.full((2, COUNT), -2, np.int32)}, "labels from -2 to -2, but its card names"),
        ({"labels": np.array([[0, 0, -1, 0]] * 2, np.int32)}, "labels from -1 to 0"),
        ({"scores": np.array([[0.1] * 4, [0.0, 0.1, 0.1, 0.1]], np.float32)}, "do not descend"),
        ({"labels": np.array([[0, 0, 0, 3]] * 2, np.int32)}, "labels from 0 to 3, .* 3 classes"),
        ({"labels": np.full((2, COUNT), 10**12)}, "labels from 1000000000000 to"),
        ({"labels": np.zeros((2, COUNT), np.float32)}, "labels as float32, not int32"),
        ({"labels": np.zeros((2, COUNT), np.uint8)}, "labels as uint8"),
        (
            {"labels": np.zeros((2, COUNT, 1), np.int32)},
            r"shapes \(2, 4, 4\), \(2, 4\) and \(2, 4,",
        ),
        ({"scores": np.full((2, COUNT), 5, np.float32)}, "scores from 5 to 5, not within 0 to 1"),
        ({"scores": np.full((2, COUNT), -0.1, np.float32)}, "scores from -0.1 to"),
        ({"scores": np.full((2, COUNT), np.nan, np.float32)}, "not finite numbers"),
        ({"scores": np.zeros((2, COUNT))}, "scores as float64, not float32"),
        (
            {"scores": np.array([[0.1, 0.2, 0.3, 0.4]] * 2, np.float32)},
            "scores that do not descend",
        ),
        ({"scores": np.zeros((COUNT,), np.float32)}, "shapes"),
        ({"boxes": np.zeros((2, COUNT, 5), np.float32)}, r"boxes, .* of shapes \(2, 4, 5\)"),
        (
            {"boxes": np.zeros((1, COUNT, 4), np.float32)},
            r"shapes \(1, 4, .* batch of 2",
        ),
        ({"boxes": np.zeros((2, 4 * COUNT), np.float32)}, "shapes"),
        ({"boxes": np.full((2, COUNT, 4), np.inf, np.float32)}, "not finite numbers"),
        ({"boxes": np.zeros((2, COUNT, 4), np.float16)}, "boxes as float16, not float32"),
        (
            {
                "boxes": np.zeros((2, 0, 4), np.float32),
                "scores": np.zeros((2, 0), np.float32),
                "labels": np.zeros((2, 0), np.int32),
            },
            "shapes",
        ),
    ],
)
def test_other_outputs_are_one_sentence(changes: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(
        BackendError, match=f"the network puts out .*{sentence}.*: export"
    ) as caught:
        check_outputs(outputs(**changes), 2, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("output", "operator", "sentence"),
    [
        ("labels", ("Sub", np.int32(2)), "labels from -2 to 0, but its card names 3 classes"),
        ("labels", ("Add", np.int32(7)), "labels from 7 to 9, but its card names 3 classes"),
        ("scores", ("Mul", np.float32(5)), "scores from .*, not within 0 to 1"),
        ("scores", ("Neg",), "scores from -.*, not within 0 to 1"),
        ("boxes", ("Pad", np.array([0, 0, 0, 0, 0, 1])), r"shapes \(1, 300, 5\)"),
        ("boxes", ("Div", np.float32(0)), "not finite numbers"),
    ],
)
def test_a_model_with_other_outputs_is_not_opened(
    tmp_path: Path, backend: str, output: str, operator: tuple[Any, ...], sentence: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
    kind, *values = operator
    path = write_altered(tmp_path / "odd.onnx", output, kind, *map(np.asarray, values))
    with pytest.raises(BackendError, match=rf"cannot run .*odd\.onnx: the network .*{sentence}"):
        open_backend(RunOptions(path, backend=backend, threads=1))


def test_a_type_that_onnx_allows_is_refused_too(tmp_path: Path) -> None:
    path = write_altered(tmp_path / "odd.onnx", "boxes", "Cast", to=TensorProto.DOUBLE)
    with pytest.raises(BackendError, match="boxes as float64, not float32"):
        open_backend(RunOptions(path, backend="onnxruntime", threads=1))


def test_classes_that_the_card_does_not_name_are_found_on_opening(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "toy.onnx", replace(CARD, classes=("red", "green")))
    sizes = (Size(320, 320), Size(416, 320))
    with pytest.raises(BackendError, match="labels from 0 to 2, but its card names 2 classes"):
        open_backend(RunOptions(str(path), backend="onnxruntime", threads=1, input_sizes=sizes))

# SPDX-License-Identifier: Apache-2.0
"""A clone stays light: how much models/ may take, and how its files keep their weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import onnx
import pytest
from onnx import numpy_helper

from compact_yolo_ros.model.store import find_model

MODELS = Path(__file__).resolve().parents[2] / "models"
FILES = sorted(MODELS.glob("*.onnx"))
SHEETS = sorted(MODELS.glob("*.webp"))
LARGEST_FOLDER = 56_000_000
LARGEST_SHEET = 150_000


def test_the_folder_of_models_is_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.iterdir()) < LARGEST_FOLDER


def test_every_file_has_its_page_and_those_in_fp32_have_a_sheet() -> None:
    names = {path.stem for path in FILES}
    assert names == {path.stem for path in MODELS.glob("*.md")}
    assert {path.stem for path in SHEETS} == {name for name in names if "_int8" not in name}
    endings = {path.suffix for path in MODELS.iterdir()}
    assert endings == {".onnx", ".md", ".webp", ".yaml"}


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.stem)
def test_a_sheet_is_small_and_large_enough_to_read(path: Path) -> None:
    assert path.stat().st_size <= LARGEST_SHEET
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape[1] > 900


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights_are_stored_in_few_bytes(path: Path) -> None:
    """At least 65 % of the weights have the type of the file.

    Float32 stay small kernels (a third of yolo_fastest) and those that float16 cannot hold. In an
    INT8 file it is half: channel attention and what reads a concatenation stay float.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("Cast", "DequantizeLinear")
    }
    weights: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "Conv":
            kernel = constants[sources.get(node.input[1], node.input[1])]
            weights[str(kernel.dtype)] += kernel.size
    expected = "int8" if find_model(str(path)).card.precision == "int8" else "float16"
    assert weights[expected] > (0.5 if expected == "int8" else 0.65) * weights.total()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_weights_are_stored_twice(path: Path) -> None:
    """Equal zero points, a few hundred bytes each, are not worth a new file in the history."""
    values = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    large = [value for value in values if value.nbytes > 1000]
    assert large
    stored = Counter((value.dtype, value.shape, value.tobytes()) for value in large)
    assert max(stored.values()) == 1

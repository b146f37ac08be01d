# SPDX-License-Identifier: Apache-2.0
"""Detectors that can teach: files of this package's contract, and YOLOX exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.boxes import ious
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.detection.suppression import select
from compact_yolo_ros.model.card import METADATA_KEY
from compact_yolo_ros.model.onnx_metadata import read_metadata
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.pixels.letterbox import PADDING
from compact_yolo_ros.support.error_text import one_line
from compact_yolo_ros.support.files import in_home

YOLOX_STRIDES = (8, 16, 32)
MOST_BOXES = 100


class Teacher(Protocol):
    """A detector whose detections become labels.

    Attributes:
        classes: its class names.
    """

    classes: tuple[str, ...]

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Detect objects.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            Boxes in pixels of the image.
        """


def find_teacher(name_or_path: str) -> Path:
    """Return the file of a model, given by its name or by a path that ends in .onnx.

    Raises:
        ModelError: there is no such file.
    """
    path = in_home(name_or_path)
    if path.suffix != ".onnx":
        return find_model(name_or_path).path
    # One without a model card may still be a YOLOX export.
    if not path.is_file():
        raise ModelError(f"there is no model file {path}")
    return path


def open_teacher(path: Path, score: float, sizes: Sequence[int], names: Sequence[str]) -> Teacher:
    """Open a teacher on one thread.

    Args:
        path: an ONNX file of this package, or a YOLOX export.
        score: the least score of its boxes; of an ensemble, of what its sizes find together.
        sizes: sides of the input in pixels, several for an ensemble; empty: the size of the file.
        names: class names of a YOLOX file, which does not contain them.

    Raises:
        ValueError: the file cannot be run, is of neither kind, or its classes are not as many as
            ``names``.
    """
    # One size may be less sure of an object than all are together.
    single = score / max(1, len(sizes))
    selection = Selection(score_threshold=single, max_detections=MOST_BOXES)
    if METADATA_KEY in read_metadata(path):
        if names:
            raise ValueError(f"{path} has class names of its own: leave out --teacher-classes")
        return OwnTeacher(path, selection, sizes, score)
    return YoloxTeacher(path, selection, sizes, score, names)


class OwnTeacher:
    """A model file of this package."""

    def __init__(
        self, path: Path, selection: Selection, sizes: Sequence[int], score: float
    ) -> None:
        options = RunOptions(str(path.resolve()), threads=1)
        squares = [Size.square(size) for size in sizes] or [find_model(options.model).card.own_size]
        ways = [options.change(input_sizes=(size,)) for size in squares]
        self._detectors = [Detector.open(way, selection=selection) for way in ways]
        self._score = score
        self.classes = self._detectors[0].card.classes

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        answers = [detector.detect(image, "rgb") for detector in self._detectors]
        return fuse(answers, self._score)


class YoloxTeacher:
    """A YOLOX export: input (1, 3, H, W) float32, BGR, 0..255, the image top left in grey 114.

    Output (1, R, 5 + C): centre and logarithm of the size in cells, not decoded; objectness and
    classes in 0..1. Rows are ordered stride, y, x. Source: Z. Ge et al., YOLOX, 2021, and the
    demonstrations of its repository.
    """

    def __init__(
        self,
        path: Path,
        selection: Selection,
        sizes: Sequence[int],
        score: float,
        names: Sequence[str],
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
            raise ValueError(f"ONNX Runtime cannot run {path}: {one_line(error)}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape, rows = inputs[0].shape, outputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or len(rows) != 3:
            raise ValueError(f"{path} has neither a model card nor the form of a YOLOX export")
        if isinstance(rows[2], int) and rows[2] != 5 + len(names):
            raise ValueError(
                f"{path} knows {rows[2] - 5} classes: give as many with --teacher-classes, "
                f"not {len(names)}"
            )
        fixed = [side for side in shape[2:] if isinstance(side, int)]
        if fixed and sizes and set(sizes) != set(fixed):
            raise ValueError(f"{path} takes images of {fixed[0]} pixels only")
        self._input = inputs[0].name
        self._sizes = [shape[2:]] if fixed else [(size, size) for size in sizes or [416]]
        self._selection, self._score = selection, score
        self.classes = tuple(names)

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        answers = [self._detect(image, height, width) for height, width in self._sizes]
        return fuse(answers, self._score)

    def _detect(self, image: NDArray[np.uint8], height: int, width: int) -> Detections:
        scale = min(height / image.shape[0], width / image.shape[1])
        shown = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        canvas = np.full((height, width, 3), PADDING, np.uint8)
        canvas[: shown[1], : shown[0]] = cv2.resize(image, shown)[..., ::-1]
        planes = canvas.transpose(2, 0, 1)[None].astype(np.float32)
        rows = self._session.run(None, {self._input: planes})[0][0]
        scores = rows[:, 4] * rows[:, 5:].max(1)
        order = np.argsort(-scores, kind="stable")
        boxes = decode_yolox(rows, height, width)[order]
        labels = rows[order, 5:].argmax(1).astype(np.int32)
        found = select(boxes, scores[order].astype(np.float32), labels, self._selection)
        boxes = (found.boxes / scale).astype(np.float32)
        height, width = image.shape[:2]
        return Detections(boxes, found.scores, found.labels).in_image(width, height)


def decode_yolox(rows: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Decode raw rows of YOLOX.

    Args:
        rows: (R, 4 or more): centre in cells, logarithms of width and height in cells.
        height: of the input in pixels.
        width: of the input in pixels.

    Returns:
        Boxes (R, 4) as x1 y1 x2 y2 in pixels of the input.

    Raises:
        ValueError: there are not as many rows as cells.
    """
    cells, strides = [], []
    for level in YOLOX_STRIDES:
        y, x = np.mgrid[: height // level, : width // level]
        cells.append(np.stack((x, y), -1).reshape(-1, 2))
        strides.append(np.full((y.size, 1), level))
    cell, stride = np.concatenate(cells), np.concatenate(strides)
    if len(cell) != len(rows):
        raise ValueError(f"the teacher returned {len(rows)} rows for {len(cell)} cells: no YOLOX")
    centre, half = (rows[:, :2] + cell) * stride, np.exp(rows[:, 2:4]) * stride / 2
    return np.concatenate((centre - half, centre + half), 1).astype(np.float32)


def fuse(answers: Sequence[Detections], score: float = 0.0, iou: float = 0.55) -> Detections:
    """Join several detections of one image: weighted mean of boxes that agree, mean of scores.

    Detections without the object count as score 0. Source: R. Solovyev et al., Weighted boxes
    fusion, 2021.

    Args:
        answers: detections of the same image.
        score: the least one of what is returned.
        iou: boxes of one class that overlap by this much or more are the same object.
    """
    if len(answers) == 1:
        return answers[0]
    joined = Detections.concatenate(answers)
    boxes, scores, labels = joined.boxes, joined.scores, joined.labels
    source = np.repeat(np.arange(len(answers)), [len(answer) for answer in answers])
    exact = boxes.astype(np.float64)
    free, result = np.ones(len(scores), bool), []
    for best in np.argsort(-scores, kind="stable"):
        if not free[best]:
            continue
        near = free & (labels == labels[best]) & (ious(exact[best : best + 1], exact)[0] >= iou)
        near[best] = True
        # of each answer the best one
        members = [
            max(np.flatnonzero(near & (source == s)), key=scores.__getitem__)
            for s in np.unique(source[near])
        ]
        weights = scores[members]
        box = (boxes[members] * weights[:, None]).sum(0) / weights.sum()
        result.append((box, weights.sum() / len(answers), labels[best]))
        free &= ~near
    result = [item for item in result if item[1] >= score]
    result.sort(key=lambda item: -item[1])
    return Detections(
        np.array([item[0] for item in result], np.float32).reshape(-1, 4),
        np.array([item[1] for item in result], np.float32),
        np.array([item[2] for item in result], np.int32),
    )

# SPDX-License-Identifier: Apache-2.0
"""Labels in the XML files of PASCAL VOC, one an image.

Coordinates count pixels from 1 and include the last one (VOC2007 development kit, section 3.2 and
VOCcode/PASreadrecord.m): pixels 1..1 are the box 0..1 here. Difficult objects are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.model.sizes import Size

# In the order of the development kit, VOC2007/VOCcode/VOCinit.m.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def read_voc(file: Path, numbers: Mapping[str, int]) -> GroundTruth:
    """Read the labels of one image.

    Args:
        file: the XML file.
        numbers: label of each class, by its name.

    Returns:
        Boxes as they stand in the file, see ``GroundTruth.clipped``; ``size`` is None where the
        file does not state it.

    Raises:
        LabelError: the file is malformed, or has an unknown class.
        OSError: it cannot be read.
    """
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except ElementTree.ParseError as error:
        raise LabelError(f"is not XML: {error}") from None
    size = None
    if (stated := root.find("size")) is not None:
        size = Size(int(_number(stated, "width")), int(_number(stated, "height")))
    boxes, labels, difficult = [], [], []
    for item in root.iterfind("object"):
        name = item.findtext("name", "").strip()
        if name not in numbers:
            raise LabelError(f"class '{name}' is not among the names of the classes")
        box = item.find("bndbox")
        if box is None:
            raise LabelError(f"an object ({name}) has no bndbox")
        left, top, right, bottom = (_number(box, k) for k in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append((left - 1, top - 1, right, bottom))
        labels.append(numbers[name])
        difficult.append(item.findtext("difficult", "0").strip() == "1")
    table, classes = np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)
    hard = np.array(difficult, bool)
    return GroundTruth(
        table[~hard], classes[~hard], size=size, ignored=table[hard], ignored_labels=classes[hard]
    )


def _number(element: ElementTree.Element, tag: str) -> float:
    try:
        value = float(element.findtext(tag, ""))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise LabelError(f"{element.tag} has no number in {tag}")
    return value

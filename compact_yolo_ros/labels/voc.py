# SPDX-License-Identifier: Apache-2.0
"""Labels in the XML files of PASCAL VOC, one an image.

Coordinates count pixels from 1 and include the last one (VOC2007 development kit, section 3.2 and
VOCcode/PASreadrecord.m): pixels 1..1 are the box 0..1 here. Difficult objects are ignored. Some
tools write ``True`` for 1, a size of 0 that they do not know, and encodings that expat cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.labels.loose_values import flag
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.files import read_file

# In the order of the development kit, VOC2007/VOCcode/VOCinit.m.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
LARGEST = 20_000_000
"""Bytes of the labels of an image."""
_ENCODING = re.compile(rb"\s*<\?xml[^>]*encoding=[\"']([\w.:-]+)")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030"}
"""Encodings that tools state though they write letters of the larger one."""


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
    root = _parse(read_file(file, LARGEST))
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
        difficult.append(flag(item.findtext("difficult"), f"'difficult' of an object ({name})"))
    table, classes = np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)
    hard = np.array(difficult, bool)
    return GroundTruth(
        table[~hard],
        classes[~hard],
        size=_size(root),
        ignored=table[hard],
        ignored_labels=classes[hard],
    )


def _parse(content: bytes) -> ElementTree.Element:
    if b"<!ENTITY" in content:  # a few of them can stand for gigabytes
        raise LabelError("defines entities, which labels do not need: delete the lines '<!ENTITY'")
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ValueError):  # an encoding that expat cannot read
        return _parse_decoded(content)
    except ElementTree.ParseError as error:
        if _is_utf8(content) and not _ENCODING.match(content):
            raise LabelError(f"is not XML: {error}") from None
        return _parse_decoded(content)


def _parse_decoded(content: bytes) -> ElementTree.Element:
    """Parse an encoding that expat does not know, or one that is not stated.

    What cannot be decoded is replaced: it may be in the path of the image, which nobody reads. In
    the name of a class it makes an unknown class.
    """
    stated = _ENCODING.match(content)
    name = stated[1].decode() if stated else "utf-8"
    try:
        text = content.decode(_SUPERSETS.get(name.casefold(), name), "replace")
        return ElementTree.fromstring(_DECLARATION.sub("", text))
    except (LookupError, ValueError, ElementTree.ParseError) as error:
        raise LabelError(f"is not XML: {error}") from None


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _size(root: ElementTree.Element) -> Size | None:
    """The stated size of the image; None if there is none, or 0."""
    stated = root.find("size")
    if stated is None:
        return None
    width, height = (int(_number(stated, side)) for side in ("width", "height"))
    return Size(width, height) if width and height else None


def _number(element: ElementTree.Element, tag: str) -> float:
    try:
        value = float(element.findtext(tag, ""))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise LabelError(f"{element.tag} has no number in {tag}")
    return value

# SPDX-License-Identifier: Apache-2.0
"""Reading labels: COCO's JSON, a folder of YOLO, a topic of detections, another model's records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, Record
from compact_yolo_ros.apps.evaluate_bag.label_matching import Label, Labels
from compact_yolo_ros.recordings.codec import DETECTIONS, Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import FOREVER, BagError

STAMP = re.compile(r"(\d{1,10})[._](\d{9})$")
NANOSECONDS = re.compile(r"(\d{16,19})$")
NUMBER = re.compile(r"(\d{1,9})$")
BEYOND = 0.1
"""So far, in sides of the picture, a number of a YOLO label may lie outside of 0 to 1."""

_Row = tuple[list[float], int, bool]
"""Box xyxy, label, and whether it is a crowd."""


def key_of(name: str) -> tuple[str, int]:
    """What the name of a picture says about its frame, from its end.

    ``1700000000.123456789.jpg`` and ``cam_1700000000123456789.png`` hold a stamp,
    ``frame_000042.jpg`` the number of the frame, counted from 0.

    Returns:
        "time" and ns, or "number" and the number.

    Raises:
        BagError: it says nothing.
    """
    stem = re.sub(r"\.[A-Za-z]\w*$", "", name.replace("\\", "/").rsplit("/", 1)[-1])
    if found := STAMP.search(stem):
        return "time", int(found[1]) * 10**9 + int(found[2])
    if found := NANOSECONDS.search(stem):
        return "time", int(found[1])
    if found := NUMBER.search(stem):
        return "number", int(found[1])
    raise BagError(
        f"the name {name} does not tell its frame: name pictures <sec>.<nanosec>.jpg, by ns, or "
        "by the number of the frame"
    )


def read_labels(
    source: str,
    bag: Bag,
    model_classes: Sequence[str],
    topic: str = "",
    threshold: float = 0.0,
) -> Labels:
    """Read labels from wherever ``source`` says.

    Args:
        source: a COCO JSON file; a folder of YOLO labels; a topic of ``bag`` with
            Detection2DArray messages; or ``<other recording>:<topic>``.
        bag: the recording to be evaluated.
        model_classes: for topics whose ``class_id`` is a number.
        topic: of the images; pictures in COCO's JSON that name another one are left out.
        threshold: annotations in COCO's JSON with a lower ``score`` are left out.

    Raises:
        BagError: it cannot be found or understood, or it holds no label.
    """
    path = Path(source)
    other, _, other_topic = source.rpartition(":")
    if source in bag.topics:
        labels = from_topic(bag, source, model_classes)
    elif other and other_topic.startswith("/"):
        labels = from_topic(Bag([Path(other)]), other_topic, model_classes)
    elif path.is_dir():
        labels = from_yolo(path)
    elif path.is_file():
        labels = from_coco(path, topic, threshold)
    else:
        topics = [name for name, found in bag.topics.items() if found.type == DETECTIONS]
        there = f"its topics of detections are {', '.join(topics)}" if topics else "it has none"
        raise BagError(
            f"{source} is no file, no folder and no topic of detections in the recording: {there}"
        )
    if not len(labels):
        why = "".join(f"; {sentence}" for sentence in bag.lost)
        raise BagError(f"{source} labels no frame{f' of {topic}' * bool(topic)}{why}")
    return labels


def from_coco(path: Path, topic: str = "", threshold: float = 0.0) -> Labels:
    """Read COCO's JSON. An image's frame is its ``timestamp_ns``, else told by its file's name.

    Images of another ``topic`` and annotations with a ``score`` below ``threshold`` are left out.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        categories = sorted(content["categories"], key=lambda category: category["id"])
        place = {category["id"]: number for number, category in enumerate(categories)}
        rows: dict[Any, list[_Row]] = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            if entry.get("score", 1) < threshold:
                continue
            x, y, width, height = entry["bbox"]
            if not (np.isfinite(entry["bbox"]).all() and width >= 0 and height >= 0):
                raise ValueError(f"{entry['bbox']} is no box: x, y, width, height")
            box = [x, y, x + width, y + height]
            row = (box, place[entry["category_id"]], bool(entry.get("iscrowd", 0)))
            rows[entry["image_id"]].append(row)
        keyed = [
            (_coco_key(image), _coco_label(image, rows[image["id"]]))
            for image in content["images"]
            if not topic or image.get("topic", topic) == topic
        ]
        classes = tuple(str(category["name"]) for category in categories)
    except OSError as error:
        raise BagError(f"cannot read {path}: {error.strerror}") from None
    except BagError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BagError(
            f"{path} is not labelled as COCO does it ({type(error).__name__}: {error})"
        ) from None
    return _labels(path.name, classes, keyed)


def _coco_key(image: dict[str, Any]) -> tuple[str, int]:
    if "timestamp_ns" in image:
        return "time", int(image["timestamp_ns"])
    return key_of(image["file_name"])


def _coco_label(image: dict[str, Any], rows: list[_Row]) -> Label:
    boxes = np.array([box for box, _, _ in rows], np.float64).reshape(-1, 4)
    labels = np.array([label for _, label, _ in rows], np.int64)
    crowd = np.array([crowd for _, _, crowd in rows], bool)
    size = (int(image["height"]), int(image["width"]))
    if min(size) < 1:
        raise ValueError(f"an image of {size[1]} x {size[0]} pixels")
    return Label(boxes[~crowd], labels[~crowd], size, boxes[crowd], labels[crowd])


def from_yolo(folder: Path) -> Labels:
    """Read a folder of text files, one a frame: class, centre, width and height as parts of 1.

    An empty file is a frame without objects. Class names are in ``data.yaml`` or ``classes.txt``
    beside the files or a folder above.
    """
    files = sorted(path for path in folder.rglob("*.txt") if path.name != "classes.txt")
    if not files:
        raise BagError(f"{folder} holds no .txt files: give the folder of YOLO labels")
    classes = _yolo_classes(folder)
    keyed = [(key_of(path.name), _yolo_label(path, len(classes))) for path in files]
    return _labels(folder.name, classes, keyed)


def _yolo_classes(folder: Path) -> tuple[str, ...]:
    for place in (folder, folder.parent, folder.parent.parent):
        for path in (place / "data.yaml", place / "classes.txt"):
            if not path.is_file():
                continue
            if path.suffix == ".txt":
                return tuple(path.read_text("utf-8-sig").splitlines())
            try:
                names = yaml.safe_load(path.read_text("utf-8-sig"))["names"]
                return tuple(map(str, names.values() if isinstance(names, dict) else names))
            except (yaml.YAMLError, KeyError, TypeError, AttributeError):
                raise BagError(f"{path} does not list the classes under 'names'") from None
    raise BagError(f"{folder} has neither a data.yaml nor a classes.txt with the classes' names")


def _yolo_label(path: Path, classes: int) -> Label:
    try:
        lines = [line.split() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        # A sixth number is a score; more are the outline of an object, which is no box.
        if any(len(line) not in (5, 6) for line in lines):
            raise ValueError
        table = np.array([list(map(float, line[:5])) for line in lines], np.float64).reshape(-1, 5)
        labels = table[:, 0].astype(np.int64)
        if not np.isin(table[:, 0], range(classes)).all():
            raise ValueError
        # Rounding, and objects that are cut off, lead a little out of the picture.
        if not ((table[:, 1:] >= -BEYOND) & (table[:, 1:] <= 1 + BEYOND)).all():
            raise ValueError
    except (OSError, ValueError):
        raise BagError(
            f"{path} does not hold lines of class (below {classes}), centre x, y, width and "
            "height, these four as parts of the picture's sides from 0 to 1"
        ) from None
    centre, half = table[:, 1:3], table[:, 3:5] / 2
    return Label(np.hstack((centre - half, centre + half)), labels, (1, 1))


def from_topic(bag: Bag, topic: str, model_classes: Sequence[str]) -> Labels:
    """Read a topic of Detection2DArray messages; the best guess at an object is its class.

    A ``class_id`` that is a number is the position in ``model_classes``.
    """
    if topic not in bag.topics:
        raise BagError(f"the recording {bag.paths[0]} has no topic {topic}")
    if bag.topics[topic].type != DETECTIONS:
        raise BagError(f"{topic} is {bag.topics[topic].type}: labels are {DETECTIONS}")
    codec, names, keyed = Codec(bag.topics.values()), dict[str, int](), []
    for message in bag.messages([topic]):
        try:
            array = codec.read(message)
        except BagError:  # damaged: a frame less is labelled
            continue
        boxes, labels = [], []
        for detection in array.detections:
            if not detection.results:
                continue
            _, name = max(map(_guess, detection.results), key=lambda guess: guess[0])
            if name.isdecimal() and int(name) < len(model_classes):
                name = model_classes[int(name)]
            centre = getattr(detection.bbox.center, "position", detection.bbox.center)
            width, height = detection.bbox.size_x / 2, detection.bbox.size_y / 2
            boxes.append((centre.x - width, centre.y - height, centre.x + width, centre.y + height))
            labels.append(names.setdefault(name, len(names)))
        label = Label(np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64))
        if not np.isfinite(label.boxes).all():
            raise BagError(f"{topic} has a box that is not finite")
        keyed.append((("time", stamp_of(array, message.time)), label))
    return _labels(topic, tuple(names), keyed)


def _guess(result: Any) -> tuple[float, str]:
    """Score and class of an object hypothesis."""
    # Before vision_msgs 4 (ROS 2 Foxy), they had no part of their own.
    found = getattr(result, "hypothesis", result)
    return found.score, str(found.class_id if hasattr(found, "class_id") else found.id)


def from_records(
    source: str, records: Iterable[Record], classes: tuple[str, ...], threshold: float
) -> Labels:
    """Take what another model found, from ``threshold`` on, as labels."""
    keyed: dict[tuple[str, int], Label] = {}  # a camera may give two frames one stamp
    for record in records:
        if record.outcome == ANSWERED:
            kept = record.detections.scores >= threshold
            boxes = record.detections.boxes[kept].astype(np.float64)
            label = Label(boxes, record.detections.labels[kept].astype(np.int64))
            keyed.setdefault(("time", record.stamp), label)
    return _labels(source, classes, list(keyed.items()))


def _labels(
    source: str, classes: tuple[str, ...], keyed: Sequence[tuple[tuple[str, int], Label]]
) -> Labels:
    kinds = {kind for (kind, _), _ in keyed}
    if len(kinds) > 1:
        raise BagError(f"{source} names some frames by time and some by number: choose one")
    keyed = sorted(keyed, key=lambda pair: pair[0][1])
    if any(not 0 <= key < FOREVER for (_, key), _ in keyed):
        raise BagError(f"{source} has a time that is none: give ns since 1970 below 2^63")
    keys: NDArray[np.int64] = np.array([key for (_, key), _ in keyed], np.int64)
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise BagError(f"{source} labels the frame {keys[twice[0]]} twice")
    items = [label for _, label in keyed]
    if kinds == {"number"}:
        return Labels(source, classes, items, numbers=keys)
    return Labels(source, classes, items, times=keys)

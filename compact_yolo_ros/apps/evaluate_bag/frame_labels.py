# SPDX-License-Identifier: Apache-2.0
"""The labels of a recording's frames: from a file, a folder, a topic or another model's results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.frame_names import (
    NUMBER,
    SECOND,
    TIME,
    FrameKey,
    first_number,
    frames_of_names,
)
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.labels.coco import CocoImage, read_coco
from compact_yolo_ros.labels.detections_topic import read_detections_topic
from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.labels.mot import read_mot
from compact_yolo_ros.labels.yolo import (
    CLASSES_FILE,
    find_class_names,
    find_keypoints,
    is_labels,
)
from compact_yolo_ros.labels.yolo import read_labels as read_yolo
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag, recording_and_topic
from compact_yolo_ros.recordings.storage import FOREVER, BagError
from compact_yolo_ros.support.folders import files_below


@dataclass(frozen=True)
class FrameLabels:
    """The labels of one topic.

    Attributes:
        source: names them to a person.
        classes: names.
        truths: one for each labelled frame.
        times: (n,) stamps of the frames in ns, ascending; None if frames are known by number.
        numbers: (n,) numbers of the frames in the recording, counted from 0; None if by time.
        whole_seconds: whether the times lack what tells several frames of a second apart.
    """

    source: str
    classes: tuple[str, ...]
    truths: Sequence[GroundTruth]
    times: NDArray[np.int64] | None = None
    numbers: NDArray[np.int64] | None = None
    whole_seconds: bool = False

    def __len__(self) -> int:
        return len(self.truths)


def read_frame_labels(
    source: str,
    bag: Bag,
    model_classes: Sequence[str],
    topic: str = "",
    threshold: float = 0.0,
) -> FrameLabels:
    """Read labels from wherever ``source`` says.

    Args:
        source: a COCO JSON file; a text file of MOTChallenge; a folder of YOLO labels; a topic of
            ``bag`` with Detection2DArray messages; or ``<other recording>:<topic>``.
        bag: the recording to be evaluated.
        model_classes: for topics whose ``class_id`` is a number.
        topic: of the images; images in COCO's JSON that name another one are left out.
        threshold: annotations in COCO's JSON with a lower ``score`` are left out.

    Raises:
        BagError: the labels cannot be found or used, or there is none.
    """
    path = Path(source)
    if source in bag.topics:
        labels = labels_of_topic(bag, source, model_classes)
    elif other := recording_and_topic(source):
        labels = labels_of_topic(Bag([Path(other[0])]), other[1], model_classes)
    elif path.is_dir():
        labels = _of_yolo_folder(path, _frames(bag, topic))
    elif path.is_file() and path.suffix.lower() == ".txt":
        labels = _of_mot_file(path, _frames(bag, topic))
    elif path.is_file():
        labels = _of_coco_file(path, topic, threshold, _frames(bag, topic))
    else:
        topics = [name for name, found in bag.topics.items() if found.type == DETECTION_ARRAY]
        there = f"its topics of detections are {', '.join(topics)}" if topics else "it has none"
        raise BagError(
            f"{source} is neither a file nor a folder nor a topic of the recording: {there}"
        )
    if not len(labels):
        why = "".join(f"; {sentence}" for sentence in bag.lost)
        raise BagError(f"{source} labels no frame{f' of {topic}' * bool(topic)}{why}")
    return labels


def _frames(bag: Bag, topic: str) -> int:
    """Number of frames of a topic; 0 if it is not known."""
    return bag.topics[topic].count if topic in bag.topics else 0


def _of_coco_file(path: Path, topic: str, threshold: float, frames: int) -> FrameLabels:
    try:
        content = read_coco(path)
        if content.problems:
            raise LabelError(content.problems[0])
        images = [image for image in content.images if not topic or image.topic in ("", topic)]
        truths = [_coco_truth(image, threshold) for image in images]
        keyed = list(zip(_coco_keys(images), truths, strict=True))
        return _frame_labels(path.name, content.classes, keyed, frames)
    except LabelError as error:
        raise BagError(f"{path}: {error}") from None


def _of_mot_file(path: Path, frames: int) -> FrameLabels:
    try:
        classes, truths = read_mot(path, frames)
        keyed = [(FrameKey(NUMBER, n), truth.clipped()) for n, truth in enumerate(truths, 1)]
        return _frame_labels(path.name, classes, keyed, frames)
    except LabelError as error:
        raise BagError(f"{path}: {error}") from None


def _coco_keys(images: Sequence[CocoImage]) -> Iterator[FrameKey]:
    names = [image.file_name for image in images if image.timestamp is None]
    by_name = iter(frames_of_names(names))
    for image in images:
        yield next(by_name) if image.timestamp is None else _coco_time(image)


def _coco_time(image: CocoImage) -> FrameKey:
    try:
        return FrameKey(TIME, int(image.timestamp))
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"the timestamp_ns '{image.timestamp}' is not a number") from None


def _coco_truth(image: CocoImage, threshold: float) -> GroundTruth:
    name = image.file_name or f"the image of {image.timestamp} ns"
    try:
        truth = image.truth(threshold)
        if truth.size is None:
            raise LabelError("its height and width are missing")
        return truth.clipped()
    except LabelError as error:
        raise LabelError(f"{name}: {error}") from None


def _of_yolo_folder(folder: Path, frames: int) -> FrameLabels:
    """A folder of text files, one a frame; class names are in it or in a folder above."""
    files = sorted(path for path in files_below(folder) if _is_label_file(path))
    if not files:
        raise BagError(f"{folder} holds no .txt files: give the folder of YOLO labels")
    try:
        classes = find_class_names(folder)
        read = partial(read_yolo, classes=len(classes), keypoints=find_keypoints(folder))
        truths = [_yolo_truth(path, read) for path in files]
        keyed = list(zip(frames_of_names(path.name for path in files), truths, strict=True))
        return _frame_labels(folder.name, classes, keyed, frames)
    except LabelError as error:
        raise BagError(f"{folder}: {error}") from None


def _is_label_file(path: Path) -> bool:
    """Whether a text file is one of labels, not of image names as CVAT's ``train.txt``."""
    if path.suffix.lower() != ".txt" or path.name == CLASSES_FILE:
        return False
    return any(letter.isdigit() for letter in path.stem) or is_labels(path)


def _yolo_truth(path: Path, read: Callable[[Path], GroundTruth]) -> GroundTruth:
    try:
        return read(path).clipped()
    except (OSError, ValueError) as error:
        raise BagError(f"{path}: {error}") from None


def labels_of_topic(bag: Bag, topic: str, model_classes: Sequence[str]) -> FrameLabels:
    """Read a topic of Detection2DArray messages; see ``read_frame_labels``."""
    if topic not in bag.topics:
        raise BagError(f"the recording {bag.paths[0]} has no topic {topic}")
    if bag.topics[topic].type != DETECTION_ARRAY:
        raise BagError(f"{topic} is {bag.topics[topic].type}: labels are {DETECTION_ARRAY}")
    try:
        classes, stamped = read_detections_topic(_readable(bag, topic), model_classes)
        keyed = [(FrameKey(TIME, stamp), truth.clipped()) for stamp, truth in stamped]
        return _frame_labels(topic, classes, keyed)
    except LabelError as error:
        raise BagError(f"{topic}: {error}") from None


def _readable(bag: Bag, topic: str) -> Iterator[tuple[int, Any]]:
    """Stamp and content of each message; a damaged one is a labelled frame less."""
    codec = Codec(bag.topics.values())
    for message in bag.messages([topic]):
        try:
            content = codec.read(message)
        except BagError:
            continue
        yield stamp_of(content, message.time), content


def labels_of_results(
    source: str, results: Iterable[FrameResult], classes: tuple[str, ...], threshold: float
) -> FrameLabels:
    """Take what another model found, with a score of at least ``threshold``, as labels."""
    keyed: dict[FrameKey, GroundTruth] = {}  # a camera may give two frames one stamp
    for result in results:
        if result.outcome == ANSWERED:
            found = result.detections[result.detections.scores >= threshold]
            truth = GroundTruth(found.boxes.astype(np.float64), found.labels.astype(np.int64))
            keyed.setdefault(FrameKey(TIME, result.stamp), truth)
    return _frame_labels(source, classes, list(keyed.items()))


def _frame_labels(
    source: str,
    classes: tuple[str, ...],
    keyed: Sequence[tuple[FrameKey, GroundTruth]],
    frames: int = 0,
) -> FrameLabels:
    """Labels in the order of their frames.

    Args:
        source: names them to a person.
        classes: names.
        keyed: the labels, each with its frame.
        frames: number of frames of the topic; 0 if it is not known.

    Raises:
        LabelError: a frame is labelled twice, or the keys are not all alike or out of range.
    """
    kinds = {key.kind for key, _ in keyed}
    if len(kinds) > 1:
        raise LabelError(f"frames are named by {' and by '.join(sorted(kinds))}: choose one")
    keyed = sorted(keyed, key=lambda pair: pair[0].value)
    if any(not 0 <= key.value < FOREVER for key, _ in keyed):
        raise LabelError("the time of a frame is out of range: give ns since 1970, below 2^63")
    keys: NDArray[np.int64] = np.array([key.value for key, _ in keyed], np.int64)
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise LabelError(f"the frame {keys[twice[0]]} is labelled twice")
    truths = [truth for _, truth in keyed]
    for shapes in sorted({truth.drawn_as for truth in truths if truth.drawn_as}):
        source = f"{source} (boxes of {shapes})"
    if kinds == {NUMBER}:
        first = first_number(keys.tolist(), frames)
        named = f"{source} (frames counted from {first})"
        return FrameLabels(named, classes, truths, numbers=keys - first)
    return FrameLabels(source, classes, truths, times=keys, whole_seconds=kinds == {SECOND})

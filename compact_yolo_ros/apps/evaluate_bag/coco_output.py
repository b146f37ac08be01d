# SPDX-License-Identifier: Apache-2.0
"""Detections as COCO's JSON, which ``labels.coco`` reads: they may serve as ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.results_folder import writing
from compact_yolo_ros.detection.detections import NO_TRACK
from compact_yolo_ros.support.files import replacing

Rows = Iterator[list[dict[str, object]]]


def write_coco(
    path: Path, results: Callable[[], Iterator[FrameResult]], classes: Sequence[str]
) -> None:
    """Write all answered frames and their detections.

    An image has the ``timestamp_ns`` and the ``topic`` of its frame, an annotation a ``score``;
    boxes are x, y, width, height in pixels; categories count from 1. An object that was followed
    has a ``track_id``.

    Args:
        path: JSON file to write.
        results: gives the results of the frames, from the first on.
        classes: names of the labels.

    Raises:
        BagError: the file cannot be written.
    """
    with writing(path), replacing(path) as temporary, temporary.open("w") as file:
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        file.write(f'{{"categories": {json.dumps(categories)},\n"images": [\n')
        _write_rows(file, ([_image(n, frame)] for n, frame in enumerate(_answered(results()), 1)))
        file.write('],\n"annotations": [\n')
        _write_rows(file, _annotations(_answered(results())))
        file.write("]}\n")


def _answered(results: Iterator[FrameResult]) -> Iterator[FrameResult]:
    return (result for result in results if result.outcome == ANSWERED)


def _image(number: int, result: FrameResult) -> dict[str, object]:
    seconds, rest = divmod(result.stamp, 10**9)
    return {
        "id": number,
        "file_name": f"{result.topic.strip('/')}/{seconds}.{rest:09}.jpg",
        "height": result.size.height,
        "width": result.size.width,
        "timestamp_ns": result.stamp,
        "topic": result.topic,
    }


def _annotations(results: Iterator[FrameResult]) -> Rows:
    count = 0
    for number, result in enumerate(results, 1):
        found, rows = result.detections, []
        ids = [NO_TRACK] * len(found) if found.ids is None else found.ids.tolist()
        for (x1, y1, x2, y2), score, label, track in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), ids, strict=True
        ):
            count += 1
            rows.append(
                {
                    "id": count,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": score,
                    **({} if track == NO_TRACK else {"track_id": track}),
                }
            )
        yield rows


def _write_rows(file: IO[str], groups: Rows) -> None:
    separator = ""
    for rows in groups:
        for row in rows:
            file.write(separator + json.dumps(row))
            separator = ",\n"
    file.write("\n")

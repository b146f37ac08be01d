# SPDX-License-Identifier: Apache-2.0
"""The bytes that are published are what rclpy would send."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Client, Start, image_message
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.detection_array import DetectionArrayWriter
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.serialized_detections import SerializedDetectionWriter
from compact_yolo_ros.ros import messages
from compact_yolo_ros.ros.messages import new_detection_writer, new_message_writer

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=17)
NUMBERS = st.floats(width=32)
HEADERS = st.builds(
    Header,
    stamp=st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1)),
    frame_id=TEXTS,
)
TRACKS = st.one_of(st.just(0), st.integers(1, 99_999), st.integers(0, 2**63 - 1))
CLASS_IDS = st.lists(TEXTS, min_size=1, max_size=4)
ROWS = st.lists(
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(0, 3), TRACKS), max_size=6
)


def detections(rows: list[tuple], classes: int, is_tracked: bool) -> Detections:
    values = np.array([row[:5] for row in rows], np.float32).reshape(-1, 5)
    labels = np.array([row[5] % classes for row in rows], np.int32)
    ids = np.array([row[6] for row in rows], np.int64) if is_tracked else None
    return Detections(values[:, :4], values[:, 4], labels, ids)


@given(
    images=st.lists(st.tuples(HEADERS, ROWS, st.booleans()), min_size=1, max_size=2),
    class_ids=CLASS_IDS,
)
def test_rclpy_reads_what_it_would_have_written(images: list, class_ids: list[str]) -> None:
    """With NaN, infinity and any text; the writer is used again, as for the images of a camera."""
    writer = SerializedDetectionWriter()
    for header, rows, is_tracked in images:
        with np.errstate(all="ignore"):  # of numbers that no detector finds
            found = detections(rows, len(class_ids), is_tracked)
            message = new_message_writer().write(header, found, class_ids)
            data = writer.write(header, found, class_ids)
        assert repr(deserialize_message(data, Detection2DArray)) == repr(message)
        assert len(data) == len(serialize_message(message))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    lines: list[str] = []
    logger = SimpleNamespace(warning=lines.append)
    monkeypatch.setattr(messages, "get_logger", lambda name: logger)
    messages.is_known_layout.cache_clear()
    yield lines
    messages.is_known_layout.cache_clear()


def test_detections_are_serialized_here(logged: list[str]) -> None:
    assert isinstance(new_detection_writer(), SerializedDetectionWriter)
    assert not logged


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + bytes(8),  # a field less at the end
        lambda data: data[:-1],  # a field more
        lambda data: data.replace(b"hi\0", b"ih\0"),
        lambda data: data[:-20] + bytes(8) + data[-20:],
    ],
)
def test_another_layout_is_left_to_rclpy_and_told_once(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], change: Any
) -> None:
    write = SerializedDetectionWriter.write
    monkeypatch.setattr(
        SerializedDetectionWriter, "write", lambda self, *sample: change(write(self, *sample))
    )
    assert isinstance(new_detection_writer(), DetectionArrayWriter)
    assert isinstance(new_detection_writer(), DetectionArrayWriter)
    (sentence,) = logged
    assert "vision_msgs is not laid out as version 4.1 here" in sentence


@pytest.mark.ros
@pytest.mark.parametrize("known", [True, False])
def test_detections_arrive_in_either_way(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(messages, "is_known_layout", lambda: known)
    seen = start_inside(score_threshold=0.05)
    red = image_message(np.full((64, 64, 3), (255, 0, 0), np.uint8), frame_id="eye")

    def answered() -> Any:
        seen.camera.publish(red)
        client.spin(0.05)
        return seen.results and seen.results[-1].detections

    (first, *_) = client.wait_for(answered)
    assert first.header == seen.results[-1].header == red.header
    assert first.results[0].hypothesis.class_id == "red"


@pytest.mark.ros
def test_nothing_is_written_without_a_subscriber(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = SerializedDetectionWriter.write

    def counting(self: Any, header: Any, found: Detections, class_ids: Any) -> bytes:
        written.append(len(found))
        return write(self, header, found, class_ids)

    monkeypatch.setattr(SerializedDetectionWriter, "write", counting)
    seen = start_inside()
    subscription = next(
        each for each in client.node.subscriptions if each.topic_name == "/detector/detections"
    )
    image = image_message(np.zeros((64, 64, 3), np.uint8))

    def processed() -> int:
        seen.camera.publish(image)
        client.spin(0.02)
        return int(seen.node._session.cameras[0].counters.snapshot().processed)

    client.wait_for(lambda: processed() > 1)
    client.node.destroy_subscription(subscription)
    publisher = seen.node._session.cameras[0]._publisher
    client.wait_for(lambda: publisher.subscriber_count() == 0)
    client.spin(0.2)
    before, images = len(written), processed()
    client.wait_for(lambda: processed() > images + 2)
    assert len(written) == before > 0

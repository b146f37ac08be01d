# SPDX-License-Identifier: Apache-2.0
"""What the node writes into messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header
from toy_model import CARD

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.drawing import annotated
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.ros.messages import class_ids, new_message_writer, to_image

FLOATS = st.floats(0, 4000, width=32)


def detections(rows: list[tuple[float, float, float, float]]) -> Detections:
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    count = len(boxes)
    return Detections(
        boxes, np.linspace(1, 0.5, count, dtype=np.float32), (np.arange(count) % 3).astype(np.int32)
    )


@given(st.lists(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), max_size=6), max_size=5))
def test_a_reused_writer_leaves_no_trace_of_earlier_images(images: list) -> None:
    writer = new_message_writer()
    for number, rows in enumerate(images):
        header = Header(frame_id=f"eye{number}")
        found = detections(rows)
        message = writer.write(header, found, CARD.classes)
        assert message == new_message_writer().write(header, found, CARD.classes)
        assert len(message.detections) == len(rows)
        for written, (x1, y1, x2, y2), score, label in zip(
            message.detections, found.boxes, found.scores, found.labels, strict=True
        ):
            assert written.header.frame_id == message.header.frame_id == f"eye{number}"
            centre = written.bbox.center.position
            corners = (
                centre.x - written.bbox.size_x / 2,
                centre.y - written.bbox.size_y / 2,
                centre.x + written.bbox.size_x / 2,
                centre.y + written.bbox.size_y / 2,
            )
            assert corners == pytest.approx((x1, y1, x2, y2), abs=1e-3)
            assert written.results[0].hypothesis.score == pytest.approx(score)
            assert written.results[0].hypothesis.class_id == CARD.classes[label]


def test_class_ids_are_names_or_numbers() -> None:
    assert class_ids(CARD, "name") == ("red", "green", "blue")
    assert class_ids(CARD, "id") == ("0", "1", "2")


@pytest.mark.parametrize(
    ("colour", "pixel"),
    [
        ("bgr", (1, 2, 3)),
        ("rgb", (3, 2, 1)),
        ("bgra", (1, 2, 3, 9)),
        ("rgba", (3, 2, 1, 9)),
        ("grey", 2),
    ],
)
def test_the_debug_image_is_bgr8_and_leaves_the_source_alone(colour: str, pixel: tuple) -> None:
    shape = (60, 80) if colour == "grey" else (60, 80, len(pixel))
    pixels = np.full(shape, pixel, np.uint8)
    before = pixels.copy()
    found = detections([(20, 20, 40, 40)])
    canvas = annotated(DecodedImage(pixels, colour), found, CARD.classes)
    message = to_image(Header(), canvas)
    drawn = np.frombuffer(message.data, np.uint8).reshape(60, 80, 3)
    assert (message.encoding, message.step) == ("bgr8", 240)
    expected = (2, 2, 2) if colour == "grey" else (1, 2, 3)
    assert (drawn[-1, -1] == expected).all()
    assert (drawn[30, 20] != expected).any()
    np.testing.assert_array_equal(pixels, before)

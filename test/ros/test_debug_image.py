# SPDX-License-Identifier: Apache-2.0
"""The debug image in its forms: how large, how often, and for whom."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Client, Start, image_message
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from stepped_clock import SteppedClock
from toy_model import CARD, CLASSES

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.drawing import annotated, colour_of, object_colours
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.pixels import image_header
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.ros.detector.debug_image import DebugImageWriter
from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS
from compact_yolo_ros.ros.detector.settings import Settings, read_settings
from compact_yolo_ros.ros.detector.topics import (
    DEBUG_IMAGE,
    DEBUG_IMAGE_COMPRESSED,
    DETECTIONS,
    IMAGE,
)
from compact_yolo_ros.ros.messages import to_compressed_image, to_image

TEAL = (140, 150, 20)


def settings(rate: float = 0.0, size: int = 0, wanted: bool = True) -> Settings:
    return Settings(Selection(), tuple(CLASSES), 0.0, wanted, Targets(), rate, size)


def plain(width: int, height: int, colour: tuple[int, int, int] = TEAL) -> DecodedImage:
    return DecodedImage(np.full((height, width, 3), colour, np.uint8), "bgr")


def found(*box: float) -> Detections:
    boxes = np.array([box], np.float32).reshape(-1, 4)
    return Detections(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int32))


def extent(canvas: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The rectangle x1 y1 x2 y2 of all that is not background, below the caption of a box."""
    rows, columns = np.nonzero((np.abs(canvas.astype(int) - TEAL) > 30).any(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.mark.parametrize(
    ("width", "height", "longest", "size"),
    [
        (1920, 1080, 640, (640, 360)),
        (480, 640, 320, (240, 320)),
        (640, 480, 640, (640, 480)),
        (320, 240, 640, (320, 240)),
        (1920, 1080, 0, (1920, 1080)),
        (3000, 1, 100, (100, 1)),
    ],
)
def test_the_longer_side_is_limited_and_the_proportions_stay(
    width: int, height: int, longest: int, size: tuple[int, int]
) -> None:
    image = plain(width, height)
    before = image.pixels.copy()
    canvas = annotated(image, found(), CLASSES, longest)
    assert (canvas.shape[1], canvas.shape[0]) == size
    assert (canvas == TEAL).all()
    np.testing.assert_array_equal(image.pixels, before)


@pytest.mark.parametrize("longest", [0, 640, 320])
def test_boxes_are_where_the_objects_are(longest: int) -> None:
    canvas = annotated(plain(1280, 960), found(640, 480, 1200, 900), CLASSES, longest)
    scale = canvas.shape[1] / 1280
    x1, _, x2, y2 = extent(canvas)
    assert (x1, x2, y2) == pytest.approx((640 * scale, 1200 * scale, 900 * scale), abs=3)


@pytest.mark.parametrize(("longest", "decoded"), [(0, 1), (640, 1), (320, 0)])
def test_an_image_of_fewer_pixels_is_decoded_as_large_as_it_is_shown(
    longest: int, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cv2.imencode(".jpg", np.full((960, 1280, 3), TEAL, np.uint8))[1].tobytes()
    message = CompressedImage(format="jpeg", data=array("B", file))
    image = ImageDecoder().compressed(message, lambda _: (320, 240))
    real, calls = cv2.imdecode, []
    monkeypatch.setattr(cv2, "imdecode", lambda *args: (calls.append(args), real(*args))[1])
    canvas = annotated(image, found(640, 480, 1200, 900), CLASSES, longest)
    assert len(calls) == decoded
    assert canvas.shape[1] == (longest or 1280)
    scale = canvas.shape[1] / 1280
    x1, _, x2, y2 = extent(canvas)
    assert (x1, x2, y2) == pytest.approx((640 * scale, 1200 * scale, 900 * scale), abs=3)


@pytest.mark.parametrize("colour", ["bgr", "rgb", "bgra", "rgba"])
def test_colours_are_those_of_the_camera_in_every_form(colour: Any) -> None:
    pixel = {"b": 250, "g": 120, "r": 10, "a": 255}
    pixels = np.full((48, 64, len(colour)), [pixel[c] for c in colour], np.uint8)
    canvas = annotated(DecodedImage(pixels, colour), found(), CLASSES, 32)
    header = Header(frame_id="eye")
    raw, jpeg = to_image(header, canvas), to_compressed_image(header, canvas)
    for message, decode in ((raw, ImageDecoder().image), (jpeg, ImageDecoder().compressed)):
        shown = decode(message)
        assert (shown.colour, shown.pixels.shape) == ("bgr", (24, 32, 3))
        assert np.abs(shown.pixels.astype(int) - (250, 120, 10)).max() <= 4
        assert message.header.frame_id == "eye"
    assert jpeg.format == "bgr8; jpeg compressed bgr8"
    assert len(jpeg.data) < len(raw.data)


@pytest.mark.parametrize("longest", [0, 320])
def test_a_trail_is_drawn_in_its_colour(longest: int) -> None:
    canvases: list[NDArray[np.uint8]] = []
    writer = DebugImageWriter(CLASSES, lambda _, canvas: canvases.append(canvas), SteppedClock())
    for step in range(3):
        x = 100.0 + 200 * step
        box = np.array([[x, 300, x + 80, 380]], np.float32)
        one = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), np.array([5]))
        header = Header(stamp=Time(sec=1 + step // 2, nanosec=step % 2 * 5 * 10**8))
        writer.write(header, plain(640, 480), one, settings(size=longest), one)
    scale = canvases[-1].shape[1] / 640
    x1, _, x2, _ = extent(canvases[-1])
    assert (x1, x2) == pytest.approx((140 * scale, 580 * scale), abs=4)
    row, column = round(340 * scale), round(240 * scale)
    assert canvases[-1][row, column].tolist() == pytest.approx(colour_of(5), abs=40)
    assert extent(canvases[0])[2] == pytest.approx(180 * scale, abs=3)


def test_a_trail_of_images_without_stamps_is_of_the_last_two_seconds_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the tracks are, which go by a steady clock then."""
    clock, canvases = SteppedClock(), list[NDArray[np.uint8]]()
    monkeypatch.setattr(image_header, "monotonic_ns", lambda: round(clock.now * 1e9))
    writer = DebugImageWriter(CLASSES, lambda _, canvas: canvases.append(canvas), clock)
    for step in range(4):
        clock.now += 1
        x = 100.0 + 100 * step
        box = np.array([[x, 300, x + 80, 380]], np.float32)
        one = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), np.array([5]))
        writer.write(Header(), plain(640, 480), one, settings(), one)
    assert extent(canvases[-1])[0] == pytest.approx(240, abs=4)  # two seconds before


def test_a_change_of_track_is_a_change_of_colour() -> None:
    box, score = np.array([[8, 8, 40, 40]] * 3, np.float32), np.ones(3, np.float32)
    plain_one = Detections(box, score, np.array([0, 0, 1], np.int32))
    first, same, other = object_colours(plain_one)
    assert first == same != other
    followed = replace(plain_one, ids=np.array([3, 4, NO_TRACK]))
    assert object_colours(followed) == [colour_of(3), colour_of(4), colour_of(1)]


def published(writer: DebugImageWriter, clock: SteppedClock, rate: float, *, fps: int) -> int:
    """Messages in ten seconds of a camera of so many images per second."""
    image, count = plain(8, 8), 0
    for _ in range(10 * fps):
        count += writer.write(Header(), image, found(), settings(rate)) is not None
        clock.now += 1 / fps
    return count


@pytest.mark.parametrize(
    ("rate", "fps", "count"),
    [(10, 30, 100), (10, 25, 100), (10, 10, 100), (10, 4, 40), (0, 30, 300), (0.5, 30, 5)],
)
def test_the_rate_is_limited_and_reached(rate: float, fps: int, count: int) -> None:
    clock = SteppedClock()
    writer = DebugImageWriter(CLASSES, to_image, clock)
    assert published(writer, clock, rate, fps=fps) == pytest.approx(count, abs=1)


def test_after_a_pause_there_is_no_burst_and_a_new_rate_holds_at_once() -> None:
    clock = SteppedClock()
    writer = DebugImageWriter(CLASSES, to_image, clock)
    assert published(writer, clock, 0.2, fps=30) == 2
    clock.now += 60
    assert published(writer, clock, 10, fps=30) == pytest.approx(100, abs=1)


def test_an_image_that_is_not_wanted_is_not_drawn() -> None:
    drawn: list[Any] = []
    writer = DebugImageWriter(CLASSES, lambda *given: drawn.append(given), SteppedClock())
    assert writer.write(Header(), plain(8, 8), found(), settings(wanted=False)) is None
    assert writer.write(Header(), plain(8, 8), found(), settings(rate=10)) is None
    assert len(drawn) == 1
    writer.write(Header(), plain(8, 8), found(), settings(rate=10))
    assert len(drawn) == 1


def test_rate_and_size_are_the_parameters() -> None:
    values = {spec.name: spec.default for spec in DETECTOR_PARAMETERS}
    usual = read_settings(values, CARD)
    assert (usual.debug_image, usual.debug_image_rate, usual.debug_image_size) == (True, 10.0, 640)
    given = {"debug_image_rate": 2.5, "debug_image_size": 320}
    changed = read_settings({**values, **given}, CARD)
    assert (changed.debug_image_rate, changed.debug_image_size) == (2.5, 320)


def test_each_camera_has_its_topics() -> None:
    assert DEBUG_IMAGE_COMPRESSED.path("") == "~/debug_image/compressed"
    assert DEBUG_IMAGE_COMPRESSED.path("front") == "~/front/debug_image/compressed"
    assert DEBUG_IMAGE.path("front") == "~/front/debug_image"
    assert DETECTIONS.path("front") == "~/front/detections"
    assert IMAGE.path("front") == "front/image"


@pytest.mark.ros
def test_a_node_shows_small_images_to_those_who_look(client: Client, start: Start) -> None:
    seen = start(debug_image_size=160)
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[..., 2] = 200  # blue, of which the toy model finds objects
    raw = client.collect(Image, "/detector/debug_image")
    jpegs = client.collect(CompressedImage, "/detector/debug_image/compressed")

    def arrived() -> bool:
        seen.camera.publish(image_message(pixels, frame_id="eye"))
        client.spin(0.05)
        return bool(raw and jpegs)

    client.wait_for(arrived)
    assert (raw[-1].width, raw[-1].height, raw[-1].header.frame_id) == (160, 120, "eye")
    shown = cv2.imdecode(np.frombuffer(jpegs[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (120, 160, 3)

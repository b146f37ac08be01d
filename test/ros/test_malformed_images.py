# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives as an image: the worker lives on, and each message is counted once."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_images import mutated, seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idle_session import CLOCK, idle_session
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from toy_model import write_toy_model

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.ros.detector.topics import FrameResult
from compact_yolo_ros.ros.detector.worker import FrameWorker
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters
from compact_yolo_ros.ros.received_images import unpack_file, unpack_image

UNPACK = {Image: unpack_image, CompressedImage: unpack_file}
ENCODINGS = [
    *("bgr8", "rgb8", "bgra8", "rgba8", "mono8", "mono16", "8UC3", "32FC1", "", "bayer_rggb8"),
    *("bayer_gbrg8", "yuv422", "yuv422_yuy2", "uyvy", "yuyv", "nv12", "nv21", "h264"),
]
FORMATS = ["jpeg", "png", "bayer_rggb8; png compressed ", "mono16; png compressed mono16", "h264"]
SIDES = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 65535]))


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Images from the nearly right to the absurd."""
    return Image(
        width=draw(SIDES),
        height=draw(SIDES),
        step=draw(SIDES),
        encoding=draw(st.one_of(st.sampled_from(ENCODINGS), st.text(max_size=12))),
        is_bigendian=draw(st.integers(0, 255)),
        data=array("B", draw(st.binary(max_size=5000))),
    )


@st.composite
def compressed_images(draw: st.DrawFn) -> CompressedImage:
    """JPEG and PNG files, whole and damaged, under right and wrong formats."""
    random = draw(st.randoms(use_true_random=False))
    file = mutated(draw(st.sampled_from(sorted(seeds().values()))), random)
    return CompressedImage(
        format=draw(st.one_of(st.sampled_from(FORMATS), st.text(max_size=12))),
        data=array("B", file),
    )


class CountingCamera:
    """A camera that counts what the worker publishes."""

    name = ""

    def __init__(self, model: Path) -> None:
        self.counters = FrameCounters()
        self.decoder = ImageDecoder(FileLimits(megabytes=1))
        self.published = 0
        detector = Detector.open(RunOptions(str(model), threads=1))
        self.worker = FrameWorker(idle_session(detector, [self]), CLOCK, None)
        self.sent = 0
        self.kind: type = Image

    def unpack(self, data: bytes) -> Any:
        return UNPACK[self.kind](data)

    def expect(self, header: Header) -> None:
        pass

    def decode(self, message: Any, *_: Any) -> DecodedImage:
        raw = self.kind is Image
        return self.decoder.image(message) if raw else self.decoder.compressed(message)

    def publish(self, result: FrameResult) -> None:
        self.published += 1

    def failed(self, kind: str, sentence: str) -> None:
        self.counters.error(kind, sentence)

    def send_and_wait(self, kind: type, data: bytes) -> None:
        self.sent += 1
        self.kind = kind
        self.worker.submit(0, data)
        end = time.monotonic() + 20
        while self.counted() < self.sent:
            assert time.monotonic() < end, "the worker has stopped"
            time.sleep(0.0001)

    def counted(self) -> int:
        seen = self.counters.snapshot()
        return seen.processed + sum(seen.errors.values())


def counting_camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingCamera]:
    opened = CountingCamera(write_toy_model(tmp_path_factory.mktemp("models") / "toy.onnx"))
    yield opened
    opened.worker.stop()


camera = pytest.fixture(counting_camera, scope="module")
noisy_camera = pytest.fixture(counting_camera, scope="module")


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(message=st.one_of(images(), compressed_images()))
def test_every_message_is_processed_or_counted_as_an_error(
    camera: CountingCamera, message: Image | CompressedImage
) -> None:
    camera.send_and_wait(type(message), serialize_message(message))
    seen = camera.counters.snapshot()
    assert seen.received == camera.sent
    assert seen.processed == camera.published
    assert not {"internal", "image malformed"} & seen.errors.keys(), seen.last_error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    message=st.one_of(images(), compressed_images()),
    random=st.randoms(use_true_random=False),
    cut=st.booleans(),
)
def test_every_damaged_message_is_processed_or_counted_as_an_error(
    noisy_camera: CountingCamera, message: Image | CompressedImage, random: Any, cut: bool
) -> None:
    """The bytes of its fields are damaged, and those of its lengths."""
    data = bytearray(serialize_message(message))
    for _ in range(random.randrange(1, 4)):
        data[random.randrange(min(len(data), 60))] = random.randrange(256)
    noisy_camera.send_and_wait(
        type(message), bytes(data[: random.randrange(len(data)) if cut else None])
    )
    seen = noisy_camera.counters.snapshot()
    assert seen.received == noisy_camera.sent
    assert seen.processed == noisy_camera.published
    assert "internal" not in seen.errors, seen.last_error

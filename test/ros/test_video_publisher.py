# SPDX-License-Identifier: Apache-2.0
"""The video publisher as a camera: what arrives on its topic, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus as Status
from harness import BEST_EFFORT, PATIENCE, ROOT, Client, ForkedNode, forked, values_of
from rcl_interfaces.srv import DescribeParameters
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.pixels.video_source import FrameSource, SourceError
from compact_yolo_ros.ros.players import video_publisher
from compact_yolo_ros.ros.players.video_publisher import (
    VIDEO_PUBLISHER_PARAMETERS,
    VideoPublisherNode,
    target_size,
)

pytestmark = pytest.mark.ros
MODULE = "compact_yolo_ros.ros.run video_publisher_node"
COUNT = 20


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A BGR picture with the colour of its number."""
    return np.full((height, width, 3), (index, 100, 200 - index), np.uint8)


def write_pictures(folder: Path, width: int = 64, height: int = 48) -> str:
    folder.mkdir()
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index:02}.bmp"), picture(index, width, height))
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    return write_pictures(tmp_path / "pictures")


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono8"])
def test_images_are_the_sources(
    tmp_path: Path, pictures: str, client: Client, encoding: str
) -> None:
    parameters = {"source": pictures, "rate": 20, "encoding": encoding, "frame_id": "front"}
    images = client.collect(Image, "image")
    with forked(MODULE, tmp_path / "log", parameters):
        client.wait_for(lambda: len(images) >= 5)
    stamps = [Time.from_msg(image.header.stamp).nanoseconds for image in images]
    assert stamps == sorted(set(stamps))
    assert 0 <= client.node.get_clock().now().nanoseconds - stamps[-1] < PATIENCE * 1e9
    shown = {picture(i)[0, 0].tobytes(): i for i in range(COUNT)}
    for image in images:
        assert (image.encoding, image.header.frame_id) == (encoding, "front")
        assert (image.width, image.height) == (64, 48)
        pixels, colour, *_ = ImageDecoder().image(image)
        if colour == "grey":
            grey = [cv2.cvtColor(picture(i), cv2.COLOR_BGR2GRAY)[0, 0] for i in range(COUNT)]
            assert pixels[0, 0] in grey
        else:
            assert colour == encoding[:3]
            assert pixels[0, 0, :: 1 if colour == "bgr" else -1].tobytes() in shown
        assert (pixels == pixels[0, 0]).all()


def test_compressed_images_are_below_the_remapped_topic(
    tmp_path: Path, pictures: str, client: Client
) -> None:
    parameters = {"source": pictures, "image_transport": "compressed", "jpeg_quality": 100}
    images = client.collect(CompressedImage, "/front/image_raw/compressed")
    with forked(MODULE, tmp_path / "log", parameters, "-r", "image:=/front/image_raw"):
        client.wait_for(lambda: images)
    assert images[0].format == "bgr8; jpeg compressed bgr8"
    pixels, colour, *_ = ImageDecoder().compressed(images[0])
    assert colour == "bgr"
    assert pixels.shape == (48, 64, 3)
    assert abs(int(pixels[0, 0, 1]) - 100) <= 3


def test_the_size_and_quality_of_service_are_those_of_the_parameters(
    tmp_path: Path, pictures: str, client: Client
) -> None:
    parameters = {"source": pictures, "width": 32, "reliability": "best_effort"}
    images = client.collect(Image, "image", BEST_EFFORT)
    with forked(MODULE, tmp_path / "log", parameters):
        client.wait_for(lambda: images)
        offered = client.node.get_publishers_info_by_topic("image")
    assert (images[0].width, images[0].height, images[0].step) == (32, 24, 96)
    assert [info.qos_profile.reliability for info in offered] == [ReliabilityPolicy.BEST_EFFORT]


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ((0, 0), (640, 480)),
        ((320, 0), (320, 240)),
        ((0, 120), (160, 120)),
        ((10, 90), (10, 90)),
        ((1, 0), (1, 1)),
    ],
)
def test_a_size_of_0_fits_the_source(given: tuple[int, int], size: tuple[int, int]) -> None:
    assert target_size((640, 480), given) == size


def test_without_loop_it_ends_after_the_last_image(
    tmp_path: Path, pictures: str, client: Client
) -> None:
    parameters = {"source": pictures, "rate": 10, "loop": False}
    images = client.collect(Image, "image")
    process = ForkedNode(MODULE, tmp_path / "log", parameters)
    client.wait_for(lambda: not process.is_running())
    assert process.stop() == 0
    assert "Traceback" not in process.output()
    client.wait_for(lambda: images and images[-1].data[0] == COUNT - 1)
    numbers = [image.data[0] for image in images]
    assert numbers == sorted(set(numbers))


def test_the_first_image_waits_for_a_subscriber(
    tmp_path: Path, pictures: str, client: Client
) -> None:
    parameters = {"source": pictures, "rate": 10, "loop": False}
    process = ForkedNode(MODULE, tmp_path / "log", parameters)
    client.wait_for(lambda: client.node.get_publishers_info_by_topic("image"))
    client.spin(0.5)
    images = client.collect(Image, "image")
    client.wait_for(lambda: not process.is_running())
    assert process.stop() == 0
    assert " 0 had no subscriber" in process.output()
    assert images[0].data[0] <= 1  # the publisher may have found the subscriber before it was found


def test_it_says_that_it_waits_for_a_subscriber(pictures: str, client: Client) -> None:
    reports = client.collect(DiagnosticArray, "/diagnostics")
    given = {"source": pictures, "loop": False, "patience": 1000.0}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = client.host(VideoPublisherNode(context=client.context, parameter_overrides=overrides))
    client.wait_for(lambda: reports)
    client.release(node)
    status = reports[-1].status[0]
    assert status.level == Status.WARN
    assert status.message == "waiting for a subscriber of /image"


def test_images_that_nobody_received_are_a_failure(tmp_path: Path, pictures: str) -> None:
    parameters = {"source": pictures, "rate": 100, "loop": False, "patience": 0.1}
    process = ForkedNode(MODULE, tmp_path / "log", parameters)
    assert process.process.wait(PATIENCE) == 1
    said = process.output()
    assert "Nothing was published on /image" in said
    skipped = re.findall(r"(\d+) (?:were late|had no subscriber)", said)
    assert sum(map(int, skipped)) == COUNT


def write_video(path: Path, codec: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 50, (64, 48))
    random = np.random.default_rng(0)
    for _ in range(COUNT):
        writer.write(cv2.resize(random.integers(0, 255, (12, 16, 3), np.uint8), (64, 48)))
    writer.release()
    return path


def overwritten(path: Path) -> str:
    content = bytearray(path.read_bytes())
    place = content.index(b"mdat") + 600
    content[place : place + 2000] = bytes(2000)
    path.write_bytes(content)
    return str(path)


def cut(path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 6000])
    return str(path)


def statuses(messages: list[DiagnosticArray]) -> list[tuple[bytes, str]]:
    """Level and message of the playback, without repetitions."""
    found = [(s.level, s.message) for m in messages for s in m.status if "playback" in s.name]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("kind", ["avi", "mp4"])
@pytest.mark.parametrize("loop", [True, False])
def test_of_a_damaged_video_it_is_said_how_much_was_read(
    tmp_path: Path, client: Client, kind: str, loop: bool
) -> None:
    if kind == "avi":
        source = cut(write_video(tmp_path / "video.avi", "MJPG"))
    else:
        source = overwritten(write_video(tmp_path / "video.mp4", "mp4v"))
    said = rf"only 1?\d of the {COUNT} frames that the file announces could be read: it may be"
    images = client.collect(Image, "image")
    reports = client.collect(DiagnosticArray, "/diagnostics")
    process = ForkedNode(MODULE, tmp_path / "log", {"source": source, "loop": loop})
    if loop:
        client.wait_for(lambda: len(images) > 3 * COUNT)
    client.wait_for(lambda: any(level == Status.WARN for level, _ in statuses(reports)))
    if loop:
        reports.clear()
        client.wait_for(lambda: statuses(reports))
    else:
        client.wait_for(lambda: not process.is_running())
    assert process.stop() == 0
    level, message = statuses(reports)[-1]
    assert level == Status.WARN and re.match(said, message)
    assert len(re.findall(rf"WARN.*{said}", process.output())) == 1


def test_of_a_whole_video_nothing_is_said(tmp_path: Path, client: Client) -> None:
    source = str(write_video(tmp_path / "video.avi", "MJPG"))
    client.collect(Image, "image")
    reports = client.collect(DiagnosticArray, "/diagnostics")
    process = ForkedNode(MODULE, tmp_path / "log", {"source": source, "loop": False})
    client.wait_for(lambda: not process.is_running())
    assert process.stop() == 0
    client.wait_for(lambda: statuses(reports))
    assert statuses(reports) == [(Status.OK, "publishing on /image")]
    assert "WARN" not in process.output()


class UnpluggedCamera(FrameSource):
    """What OpenCV does with a camera after its cable was pulled; a double, as there is none."""

    rate, live = 30.0, True

    def read(self) -> None:
        return None

    def skip(self) -> bool:
        return False

    def rewind(self) -> None:
        raise SourceError("camera 0 cannot be opened")


def test_a_camera_that_is_unplugged_is_no_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_publisher, "open_source", lambda source: UnpluggedCamera())
    given = [Parameter("source", value="0"), Parameter("loop", value=False)]
    node = client.host(VideoPublisherNode(context=client.context, parameter_overrides=given))
    with pytest.raises(SystemExit) as end:
        node._tick()
    client.release(node)
    assert end.value.code == 1


def test_the_least_rates_are_rates_too(pictures: str, client: Client) -> None:
    """A timer of ROS counts 64 bits of nanoseconds."""
    for rate in (1e-10, 5e-324):
        given = [Parameter("source", value=pictures), Parameter("rate", value=rate)]
        node = client.host(VideoPublisherNode(context=client.context, parameter_overrides=given))
        client.spin(0.1)
        client.release(node)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"source": "/missing.mp4"}, "the source '/missing.mp4' does not exist"),
        ({"source": "/" + "x" * 300}, "cannot be opened: File name too long"),
        ({"source": "~no_user/x.mp4"}, "the home folder of '~no_user/x.mp4' is not known"),
        ({"source": 4711}, "camera 4711 cannot be opened"),
        ({"encoding": "yuv"}, "encoding 'yuv' is not known: give one of bgr8, rgb8, mono8"),
        ({"rate": "fast"}, "rate is fast: give a number from 0 to 1000"),
        ({"rate": -1}, "rate is -1: give a number from 0"),
        ({"jpeg_quality": 0}, "jpeg_quality out of range"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, parameters: dict[str, Any], expected: str) -> None:
    process = ForkedNode(MODULE, tmp_path / "log", parameters)
    assert process.process.wait(PATIENCE) == 1
    fatal = [line for line in process.output().splitlines() if "FATAL" in line]
    assert len(fatal) == 1
    assert expected in fatal[0] and "ROS cannot start" not in fatal[0]
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    ("shape", "parameters", "sentence"),
    [
        (
            (4000, 10),
            {"width": 8192},
            "an image of 10x4000 pixels would become 8192x3276800: set both width and height",
        ),
        (
            (1, 65501),
            {"image_transport": "compressed"},
            "an image of 65501x1 pixels cannot be written as JPEG, whose sides have at most 65500",
        ),
    ],
)
def test_an_image_that_would_be_too_large_ends_it_with_a_sentence(
    tmp_path: Path,
    client: Client,
    shape: tuple[int, int],
    parameters: dict[str, Any],
    sentence: str,
) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*shape, 3), np.uint8))
    client.collect(Image, "image")
    client.collect(CompressedImage, "image/compressed")
    process = ForkedNode(MODULE, tmp_path / "log", {"source": str(tmp_path), **parameters})
    client.wait_for(lambda: not process.is_running())
    assert process.process.returncode == 1
    assert sentence in process.output() and "Traceback" not in process.output()


def test_a_damaged_picture_ends_it_with_a_sentence(
    tmp_path: Path, pictures: str, client: Client
) -> None:
    Path(pictures, "99.jpg").write_bytes(b"no picture")
    client.collect(Image, "image")
    process = ForkedNode(MODULE, tmp_path / "log", {"source": pictures, "rate": 100})
    client.wait_for(lambda: not process.is_running())
    assert process.process.returncode == 1
    assert "99.jpg' cannot be read as an image" in process.output()
    assert "Traceback" not in process.output()


def test_parameters_are_described(tmp_path: Path, pictures: str, client: Client) -> None:
    names = [spec.name for spec in VIDEO_PUBLISHER_PARAMETERS]
    with forked(MODULE, tmp_path / "log", {"source": pictures}):
        answer = client.call(
            DescribeParameters, "/video_publisher/describe_parameters", names=names
        )
    assert [descriptor.name for descriptor in answer.descriptors] == names
    for descriptor in answer.descriptors:
        assert descriptor.description.endswith(".")
        assert descriptor.read_only


def test_images_that_cannot_be_sent_are_counted_and_logged_once(
    pictures: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    attempts = []
    publish = Publisher.publish

    def full(publisher: Publisher, message: Any) -> None:
        """What rclpy does when a reliable topic is flooded; a double, as flooding takes long."""
        if isinstance(message, Image):
            attempts.append(message)
            raise RuntimeError("Failed to publish: cannot publish data")
        publish(publisher, message)

    monkeypatch.setattr(Publisher, "publish", full)
    client.collect(Image, "image")
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    given = [Parameter("source", value=pictures), Parameter("rate", value=100.0)]
    node = client.host(VideoPublisherNode(context=client.context, parameter_overrides=given))
    client.wait_for(lambda: len(attempts) >= 5 and diagnostics)
    client.release(node)
    status, values = diagnostics[-1].status[0], values_of(diagnostics[-1])
    assert status.level == Status.WARN
    assert status.message.startswith(f"{values['images_failed']} image(s) could not be sent")
    logged = capfd.readouterr().err
    assert logged.count("could not be sent (Failed to publish") == 1
    assert f"{len(attempts)} could not be sent" in logged


RECEIVER = """
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("receiver")
numbers = []
qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
node.create_subscription(Image, "image", lambda image: numbers.append(image.data[0]), qos)
while len(numbers) < 60:
    rclpy.spin_once(node)
print(*numbers)
"""


def test_the_shared_memory_profile_carries_large_images_best_effort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DDS's own settings hardly any of these images arrives."""
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config/fastdds_shm.xml"))
    source = write_pictures(tmp_path / "large", 640, 480)
    parameters = {"source": source, "rate": 30, "reliability": "best_effort"}
    with (
        forked(MODULE, tmp_path / "log", parameters) as publisher,
        subprocess.Popen(
            [sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True
        ) as receiver,
    ):
        try:
            received = receiver.communicate(timeout=60)[0].split()
        except subprocess.TimeoutExpired:
            receiver.kill()
            pytest.fail(f"nothing arrives: {receiver.communicate()[0]}{publisher.output()}")
    publisher.stop()
    numbers = [int(number) for number in received]
    missing = sum((b - a - 1) % COUNT for a, b in zip(numbers, numbers[1:], strict=False))
    late = int(publisher.output().split(" were late")[0].split()[-1])
    assert missing <= late  # the publisher of a busy machine skips images itself

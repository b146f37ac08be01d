# SPDX-License-Identifier: Apache-2.0
"""Positions in the node: what is subscribed and published, and what is said where they fail."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from threading import Event
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import BEST_EFFORT, PATIENCE, Client, Start, image_message, values_of
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from stepped_clock import SteppedClock
from toy_model import CARD, CLASSES
from vision_msgs.msg import Detection2DArray, Detection3DArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.position import Positions
from compact_yolo_ros.pixels.depth import depth_pixels
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.ros.detector import camera_positions
from compact_yolo_ros.ros.detector.camera_positions import depth_reader
from compact_yolo_ros.ros.detector.depth_history import MOST_BYTES, MOST_IMAGES, DepthHistory
from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.detector.parameters import check_value, positions
from compact_yolo_ros.ros.messages import to_detection_3d_array
from compact_yolo_ros.ros.received_images import ReceivedImage
from compact_yolo_ros.ros.transports import COMPRESSED_DEPTH, RAW

DEFAULTS: dict[str, Any] = {spec.name: spec.default for spec in SPECS.values()}
SIDE = 320


def depth_message(z: Any, stamp: Time, encoding: str = "16UC1", frame: str = "camera") -> Image:
    """A depth image of the distances ``z``, (h, w) in metres."""
    kind = np.uint16 if encoding == "16UC1" else np.float32
    pixels = np.asarray(z * (1000 if encoding == "16UC1" else 1)).astype(kind)
    message = Image(header=Header(stamp=stamp, frame_id=frame), encoding=encoding)
    message.height, message.width = pixels.shape
    message.step = pixels.strides[0]
    message.data.frombytes(pixels.tobytes())
    return message


def received(stamp: int, size: int = 8) -> ReceivedImage:
    header = Header(stamp=Time(sec=stamp))
    return ReceivedImage(header, 1, size, "16UC1", 0, 2 * size, memoryview(bytes(2 * size)))


def test_the_history_is_short_and_knows_the_nearest(monkeypatch) -> None:
    history = DepthHistory()
    assert history.nearest(Header()) is None
    for stamp in range(100):
        history.add(received(stamp))
    assert len(history) == MOST_IMAGES
    image, seconds = history.nearest(Header(stamp=Time(sec=80, nanosec=400_000_000)))
    assert image.header.stamp.sec == 80 and seconds == pytest.approx(0.4)
    assert history.nearest(Header())[0].header.stamp.sec == 100 - MOST_IMAGES
    monkeypatch.setattr("compact_yolo_ros.ros.detector.depth_history.MOST_BYTES", 500)
    history.add(received(100, 200))
    assert len(history) == 1 + 100 // 16
    history.add(received(101, 501))
    assert len(history) == 0  # none that is larger than all of them may be


def kept(milliseconds: int, size: int) -> Any:
    """A depth image of a stamp and a size in bytes, without the bytes."""
    seconds, rest = divmod(milliseconds, 1000)
    header = Header(stamp=Time(sec=seconds, nanosec=rest * 10**6))
    return SimpleNamespace(header=header, data=SimpleNamespace(nbytes=size))


@pytest.mark.parametrize("late", [0, 100])
@pytest.mark.parametrize(("period", "size"), [(33, 1920 * 1080 * 4), (11, 848 * 480 * 2)])
def test_the_depth_of_an_image_in_work_is_kept_however_long_that_takes(late, period, size) -> None:
    """Whether it comes before the image is taken, or 100 ms later; one more at most is kept."""
    history, stamps = DepthHistory(), range(0, 4000, period)
    image = kept(stamps[len(stamps) // 2], 0).header
    taken = stamps[len(stamps) // 2] + 50
    for stamp in stamps:
        if stamp + late > taken:
            history.expect(image)
            taken = 10**9
        history.add(kept(stamp, size))
        assert len(history) <= min(MOST_IMAGES, MOST_BYTES // size)
    found, seconds = history.nearest(image)
    assert seconds == 0 and found.header == image
    assert not history.is_too_short(image)
    history.clear()
    assert history.nearest(image) is None


def test_without_stamps_the_newest_depth_before_the_image_belongs_to_it() -> None:
    history, images = DepthHistory(), [received(0) for _ in range(4)]
    for image in images[:3]:
        history.add(image)
    history.expect(Header())
    history.add(images[3])
    assert history.nearest(Header())[0] is images[2]
    history.expect(Header())
    assert history.nearest(Header())[0] is images[3]


def test_a_history_is_too_short_where_it_has_let_go_of_what_came_before_the_image() -> None:
    history = DepthHistory()
    for stamp in range(MOST_IMAGES):
        history.add(received(5 + stamp))
    assert not history.is_too_short(Header())  # the camera has begun after it
    history.add(received(5 + MOST_IMAGES))
    assert history.is_too_short(Header(stamp=Time(sec=5)))
    assert not history.is_too_short(Header(stamp=Time(sec=5 - 60)))  # of another clock
    assert not history.is_too_short(Header(stamp=Time(sec=6)))
    history.clear()
    history.add(received(5))
    assert not history.is_too_short(Header())


def test_depths_are_read_in_any_byte_order_and_never_beyond_the_message() -> None:
    values = np.array([[1000, 2], [0, 65535]])
    for big in (0, 1):
        data = values.astype(">u2" if big else "<u2").tobytes() + b"padding"
        message = SimpleNamespace(
            encoding="16UC1", width=2, height=2, step=4, is_bigendian=big, data=data
        )
        np.testing.assert_array_equal(depth_pixels(message), values)
    for changes, words in (
        ({"encoding": "rgb8"}, "encoding 'rgb8'"),
        ({"step": 3}, "rows of 3"),
        ({"height": 4}, "15 bytes"),
        ({"height": 0}, "cannot be used"),
        ({"width": 2**31, "step": 2**32 - 1}, "cannot be used"),
    ):
        with pytest.raises(ImageError, match=words):
            depth_pixels(SimpleNamespace(**{**vars(message), **changes}))


def test_a_message_has_the_known_objects_with_their_own_names() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 3, np.float32)
    found = Detections(
        boxes,
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 1, 0], np.int32),
        np.array([5, NO_TRACK, 7]),
    )
    covariance = np.arange(9.0).reshape(3, 3)
    where = Positions(
        np.array([0, 1]),
        np.array([[1.0, 2, 3], [4, 5, 6]]),
        np.ones((2, 3)),
        np.stack([covariance, np.eye(3)]),
    )
    header = Header(frame_id="optical")
    array = to_detection_3d_array(header, found, where, CLASSES)
    first, second = array.detections
    assert first.header == array.header == header and (first.id, second.id) == ("5", "")
    assert second.results[0].hypothesis.class_id == CLASSES[1]
    pose = first.results[0].pose
    assert (pose.pose.position.x, pose.pose.position.z) == (1, 3) and pose.pose.orientation.w == 1
    assert first.bbox.center == pose.pose
    np.testing.assert_array_equal(np.reshape(pose.covariance, (6, 6))[:3, :3], covariance)
    assert pose.covariance[35] == pytest.approx(np.pi**2 / 3)


def test_parameters_are_read_for_the_classes_of_the_model() -> None:
    assert positions(DEFAULTS, CARD) is None
    given = {"positions": "bearing", "class_heights": [f"{CLASSES[1]}:1.7"]}
    wanted = positions({**DEFAULTS, **given}, CARD)
    assert wanted is not None and not wanted.uses_depth and wanted.heights == {1: 1.7}
    with pytest.raises(ValueError, match="has no class 'unicorn'"):
        positions({**DEFAULTS, "class_heights": ["unicorn:2"]}, CARD)
    with pytest.raises(ValueError, match="class 'person' has two heights: give one"):
        check_value("class_heights", ["person:1.7", "car:1.5", "person:1.2"])
    for text in ("person", "person:", "person:0", "person:nan", "person:1000"):
        with pytest.raises(ValueError, match="is not of the form person:1.7"):
            check_value("class_heights", [text])


@pytest.fixture
def camera(client: Client, start_inside: Start, monkeypatch) -> SimpleNamespace:
    """A node, a camera, and what says where objects are; a green square stands still."""
    seen = start_impatient(client, start_inside, monkeypatch)
    seen.depth = client.node.create_publisher(Image, "/depth", 5)
    return seen


@pytest.mark.ros
def test_positions_are_switched_on_and_off_and_problems_are_said(
    client: Client, camera: SimpleNamespace
) -> None:
    assert not topics(client)
    change(camera, positions="depth")
    client.wait_for(lambda: topics(client) == {"/depth", "/camera_info"})
    client.wait_for(lambda: client.node.count_publishers("/detector/detections_3d"))

    wait_for_problem(client, camera, "no CameraInfo has come on /camera_info", info=None)
    wait_for_problem(client, camera, "no depth image has come on /depth", depth=None)
    wait_for_problem(client, camera, "depth_tolerance", late=2)
    wait_for_problem(client, camera, "in the frame 'depth_frame'", frame="depth_frame")
    wait_for_problem(client, camera, "has 160 x 320 pixels", depth=np.full((320, 160), 2.0))
    wait_for_problem(client, camera, "of images of 640 x 320 pixels", info=calibration(width=640))
    wait_for_problem(client, camera, "no focal length in K", info=calibration(k=[0.0] * 9))
    torn = serialize_message(CALIBRATION)[:200]
    wait_for_problem(client, camera, "the CameraInfo message cannot be read", info=torn)
    client.wait_for(lambda: len(camera.results) >= 8)  # detections go on
    assert not camera.places
    values = values_of(camera.diagnostics[-1])
    assert int(values["positions_failed"]) >= 8 and values["errors"] == "0"

    for encoding in ("16UC1", "32FC1"):
        camera.places.clear()
        show(client, camera, lambda: pairs(camera), encoding=encoding)
        array, result = pairs(camera)[-1]
        (place,), (box,) = array.detections, [each.bbox for each in result.detections]
        at = place.bbox.center.position
        assert place.header == array.header
        assert at.z == pytest.approx(2.0)
        assert at.x == pytest.approx((box.center.position.x - 160) / 300 * 2, abs=1e-5)
        assert place.bbox.size.y == pytest.approx(box.size_y / 300 * 2, rel=1e-5)
        assert place.results[0].hypothesis == result.detections[0].results[0].hypothesis
    client.wait_for(lambda: int(values_of(camera.diagnostics[-1])["positions_found"]) > 0)

    change(camera, positions="bearing", class_heights=[f"{name}:0.1" for name in CLASSES])
    client.wait_for(lambda: topics(client) == {"/camera_info"})
    since = now(client)  # what is of depth images may still be on its way
    show(client, camera, lambda: seconds(camera.places[-1].header.stamp) > since, depth=None)
    (place,) = camera.places[-1].detections
    assert place.bbox.center.position.z == pytest.approx(0.1 * 300 / box.size_y, rel=1e-4)

    # Turned by 90 degrees, objects are upright along x, where the focal length is another one.
    change(camera, rotation=[90])
    lens = calibration(k=[150.0, 0, 159.5, 0, 300, 159.5, 0, 0, 1])
    turned = pytest.approx(0.1 * 150 / box.size_x, rel=1e-4)
    show(client, camera, lambda: ranges(camera) == [turned], info=lens, depth=None)

    change(camera, positions="off")
    client.wait_for(lambda: not topics(client))
    client.wait_for(lambda: "positions_found" not in values_of(camera.diagnostics[-1]))


@pytest.mark.ros
def test_depth_images_have_time_to_come_whenever_they_are_wanted(
    client: Client, camera: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also long after the calibration, which bearings needed before."""
    clock = SteppedClock()
    monkeypatch.setattr(camera_positions, "monotonic", clock)
    monkeypatch.setattr(camera_positions, "GRACE", 2.0)
    change(camera, positions="bearing")
    show(client, camera, lambda: camera.places, depth=None)
    (each,) = camera.node._session.cameras
    clock.now += 100
    change(camera, positions="depth")
    show(client, camera, lambda: each.positions.counts["positions_failed"], depth=None)
    assert not each.positions.problem()
    clock.now += 2
    wait_for_problem(client, camera, "no depth image has come on /depth", depth=None)


@pytest.mark.ros
def test_a_problem_of_a_slow_camera_is_told_until_an_image_has_positions(
    client: Client, camera: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteppedClock()
    monkeypatch.setattr(camera_positions, "monotonic", clock)
    change(camera, positions="depth")
    (each,) = camera.node._session.cameras
    clock.now += 10
    show(client, camera, each.positions.problem, depth=None)
    clock.now += 30
    assert "no depth image has come" in each.positions.problem()
    found = each.positions.counts["positions_found"]
    show(client, camera, lambda: each.positions.counts["positions_found"] > found)
    clock.now += 5
    assert not each.positions.problem()


@pytest.mark.ros
def test_depth_that_is_best_effort_for_a_reliable_subscription_is_told(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As drivers of depth cameras publish it; another topic would not help."""
    seen = start_impatient(
        client, start_inside, monkeypatch, positions="depth", reliability="reliable"
    )
    seen.depth = client.node.create_publisher(Image, "/depth", BEST_EFFORT)
    wait_for_problem(client, seen, "/depth is published best effort")
    (line,) = {status.message for status in seen.diagnostics[-1].status}
    assert line.endswith("set reliability to auto") and "remap" not in line


@pytest.mark.ros
def test_a_calibration_that_is_latched_is_had_however_late(
    client: Client, camera: SimpleNamespace
) -> None:
    """Some drivers publish it once, for all who come later."""
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.node.destroy_publisher(camera.info)
    client.node.create_publisher(CameraInfo, "/camera_info", qos).publish(CALIBRATION)
    for _ in range(2):
        change(camera, positions="bearing")
        show(client, camera, lambda: camera.places, info=None, depth=None)
        change(camera, positions="off")
        client.wait_for(lambda: not topics(client))
        camera.places.clear()


@pytest.mark.ros
def test_a_slow_network_finds_the_depth_that_has_come_before(
    client: Client, camera: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compact_yolo_ros.ros.detector.depth_history.MOST_IMAGES", 2)
    change(camera, positions="depth")
    show(client, camera, lambda: pairs(camera))
    session = camera.node._session
    history, detect = session.cameras[0].positions._history, session.detector.detect_decoded
    busy, go = Event(), Event()

    def slow(*given: Any) -> Detections:
        busy.set()
        assert go.wait(PATIENCE)
        return detect(*given)

    def bring_depth(sec: int) -> None:
        later = Header(stamp=Time(sec=stamp.sec + sec, nanosec=stamp.nanosec))
        camera.depth.publish(depth_message(PLANE, later.stamp))
        client.wait_for(lambda: history.nearest(later)[1] == 0)

    client.spin(0.2)  # all that was shown is answered
    stamp = client.node.get_clock().now().to_msg()
    bring_depth(0)
    monkeypatch.setattr(session.detector, "detect_decoded", slow)
    camera.camera.publish(picture(stamp))
    client.wait_for(busy.is_set)
    for sec in (1, 2, 3):
        bring_depth(sec)
    go.set()
    client.wait_for(lambda: camera.places[-1].header.stamp == stamp)
    (place,) = camera.places[-1].detections
    assert place.bbox.center.position.z == pytest.approx(2.0)

    words = "depth images are kept for too short a time: the oldest one is "
    wait_for_problem(client, camera, words, late=-2)


@pytest.mark.ros
def test_an_image_on_demand_has_positions(client: Client, camera: SimpleNamespace) -> None:
    """Of a disabled node, which wakes depth and calibration with the image, and lets them go."""
    change(camera, positions="depth", detect_once_timeout=PATIENCE)
    client.call(SetBool, "/detector/enable", data=False)
    client.wait_for(lambda: not topics(client))
    asker = client.node.create_client(Trigger, "/detector/detect_once")
    client.wait_for(asker.service_is_ready)
    answer = asker.call_async(Trigger.Request())
    show(client, camera, answer.done)
    client.wait_for(lambda: camera.places)
    (array,), stamp = camera.places, json.loads(answer.result().message)["stamp"]
    assert (array.header.stamp.sec, array.header.stamp.nanosec) == (stamp["sec"], stamp["nanosec"])
    assert array.detections[0].bbox.center.position.z == pytest.approx(2.0)
    client.wait_for(lambda: not topics(client))


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_compressed_depth_is_read_as_raw_depth_is(encoding: str) -> None:
    """What a message of each transport becomes; RVL and the rest are in test_compressed_depth."""
    stored = np.full((SIDE, SIDE), 2000 if encoding == "16UC1" else 5051, np.uint16)
    file = CompressedImage(header=Header(stamp=Time(sec=7), frame_id="camera"))
    file.format = f"{encoding}; compressedDepth png"
    quantisation = struct.pack("<iff", 0, 10100.0, 1.0)  # 2 m is 10100 / (5051 - 1)
    file.data.frombytes(quantisation + cv2.imencode(".png", stored)[1].tobytes())
    read = {}
    for transport, message in (
        (RAW, depth_message(PLANE, Time(sec=7), encoding)),
        (COMPRESSED_DEPTH, file),
    ):
        unpack, pixels = depth_reader(transport, USUAL_LIMITS)
        image = unpack(serialize_message(message))
        assert (image.width, image.height, image.header.frame_id) == (SIDE, SIDE, "camera")
        read[transport.name] = pixels(image)
    raw, compressed = read.values()
    assert raw.dtype == compressed.dtype
    np.testing.assert_allclose(compressed, raw)


@pytest.mark.ros
def test_compressed_depth_gives_positions(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = start_impatient(
        client, start_inside, monkeypatch, positions="depth", depth_transport="compressedDepth"
    )
    topic = client.node.create_publisher(CompressedImage, "/depth/compressedDepth", 5)

    def compress(raw: Image) -> None:
        pixels = np.frombuffer(raw.data, np.uint16).reshape(raw.height, raw.width)
        file = CompressedImage(header=raw.header, format="16UC1; compressedDepth png")
        file.data.frombytes(bytes(12) + cv2.imencode(".png", pixels)[1].tobytes())
        topic.publish(file)

    seen.depth = SimpleNamespace(publish=compress)
    show(client, seen, lambda: seen.places and seen.places[-1].detections)
    assert seen.places[-1].detections[0].bbox.center.position.z == pytest.approx(2.0)


def pairs(camera: SimpleNamespace) -> list[tuple[Detection3DArray, Detection2DArray]]:
    """Positions, and the detections that they are of, which come on another topic."""
    return [(a, r) for a in camera.places for r in camera.results if a.header == r.header]


def ranges(camera: SimpleNamespace) -> list[float]:
    """Along z, of the objects of the last image."""
    return [each.bbox.center.position.z for each in camera.places[-1].detections]


def seconds(stamp: Time) -> float:
    return stamp.sec + 1e-9 * stamp.nanosec


def now(client: Client) -> float:
    return seconds(client.node.get_clock().now().to_msg())


def start_impatient(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch, **parameters: Any
) -> SimpleNamespace:
    """A node that gives positions no time to become known, and what it needs but depth images."""
    monkeypatch.setattr(camera_positions, "GRACE", 0.0)
    seen = start_inside(**parameters)
    seen.places = client.collect(Detection3DArray, "/detector/detections_3d")
    seen.info = client.node.create_publisher(CameraInfo, "/camera_info", 5)
    return seen


def topics(client: Client) -> set[str]:
    """Those of the two that the node subscribes to."""
    return client.heard() & {"/depth", "/camera_info"}


def calibration(**changes: Any) -> CameraInfo:
    fields: dict[str, Any] = {
        "width": SIDE,
        "height": SIDE,
        "k": [300.0, 0, 159.5, 0, 300, 159.5, 0, 0, 1],
    }
    return CameraInfo(**{**fields, **changes})


def picture(stamp: Time) -> Image:
    """A green square."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[96:112, 96:112, 1] = 250
    image = image_message(pixels, stamp)
    image.header.frame_id = "camera"
    return image


CALIBRATION = calibration()
PLANE = np.full((SIDE, SIDE), 2.0)


def show(
    client: Client,
    camera: SimpleNamespace,
    done: Callable[[], object],
    *,
    info: CameraInfo | bytes | None = CALIBRATION,
    depth: np.ndarray | None = PLANE,
    late: int = 0,
    **fields: Any,
) -> None:
    """Publish images, and what belongs to them, until something happens."""

    def shown() -> object:
        stamp = client.node.get_clock().now().to_msg()
        if info is not None:
            camera.info.publish(info)
        if depth is not None:
            moved = Time(sec=stamp.sec - late, nanosec=stamp.nanosec)
            camera.depth.publish(depth_message(depth, moved, **fields))
        client.spin(0.02)
        camera.camera.publish(picture(stamp))
        client.spin(0.05)
        return done()

    client.wait_for(shown)


def wait_for_problem(client: Client, camera: SimpleNamespace, words: str, **shown: Any) -> None:
    """Show images until /diagnostics warns of them in these words; then forget all depths."""
    show(client, camera, lambda: words in camera.diagnostics[-1].status[0].message, **shown)
    assert camera.diagnostics[-1].status[0].level == b"\1"
    change(camera, positions="bearing")
    change(camera, positions="depth")


def change(seen: SimpleNamespace, **values: Any) -> None:
    for answer in seen.node.set_parameters([Parameter(n, value=v) for n, v in values.items()]):
        assert answer.successful, answer.reason

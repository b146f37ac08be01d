# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` says of the cameras on the ROS graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import BEST_EFFORT, ROOT, Client, image_message
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.apps.doctor.cameras import _videos, cameras
from compact_yolo_ros.apps.doctor.isolation import isolated
from compact_yolo_ros.apps.doctor.probe import Level

pytestmark = [pytest.mark.ros, pytest.mark.slow]

VGA = np.zeros((480, 640, 3), np.uint8)
SMALL = np.zeros((60, 80, 3), np.uint8)
DEPTHS = np.zeros((60, 80), np.uint16)


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, dict[str, Any]]]:
    """Findings by section and name, while six cameras publish and one is silent."""
    client = Client()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("FASTDDS_DEFAULT_PROFILES_FILE", None)
    command = [sys.executable, "-m", "compact_yolo_ros.apps.doctor.command", "--json"]
    advertise = client.node.create_publisher
    cameras = {
        advertise(Image, "/good/image", BEST_EFFORT): {"pixels": SMALL},
        advertise(Image, "/large/image", 5): {"pixels": VGA},
        advertise(Image, "/odd/image", 5): {"pixels": SMALL, "encoding": "32FC3"},
        advertise(Image, "/late/image", 5): {"pixels": SMALL, "stamp": Time(sec=5)},
        advertise(Image, "/plain/image", 5): {"pixels": SMALL, "stamp": None},
        advertise(Image, "/far/image", 5): {"pixels": DEPTHS, "encoding": "16UC1"},
    }
    # image_transport announces both beside every camera, and sends nothing on them for depth
    advertise(CompressedImage, "/far/image/compressed", 5)
    advertise(CompressedImage, "/far/image/compressedDepth", 5)
    advertise(Image, "/silent/image", 5)
    advertise(Image, "/detector/debug_image", 5)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            now = client.node.get_clock().now().to_msg()
            for camera, given in cameras.items():
                message = image_message(
                    given["pixels"], given.get("stamp", now), given.get("encoding", "rgb8")
                )
                camera.publish(message)
            client.spin(0.05)
        assert process.stdout is not None
        printed = process.stdout.read()
    client.close()
    sections = json.loads(printed)["sections"]
    yield {title: {f["name"]: f for f in findings} for title, findings in sections.items()}


def test_a_camera_is_described(report: dict) -> None:
    found = report["cameras"]["/good/image"]
    assert found["level"] == "OK"
    assert "Image by client (best_effort), 80x60 rgb8, " in found["found"]
    assert "images/s" in found["found"]
    assert found["data"]["frame"] == 80 * 60 * 3


def test_the_largest_image_is_compared_with_the_shared_memory(report: dict) -> None:
    memory = report["transports"]["shared memory"]
    assert (memory["level"], memory["data"]["frame"]) == ("problem", VGA.nbytes)


def test_images_that_the_node_would_refuse_are_a_problem(report: dict) -> None:
    found = report["cameras"]["/odd/image"]
    assert (found["level"], "'32FC3' is not supported" in found["found"]) == ("problem", True)


def test_stamps_of_another_clock_are_a_note(report: dict) -> None:
    found = report["cameras"]["/late/image"]
    assert (found["level"], "use_sim_time" in found["remedy"]) == ("note", True)


def test_images_without_a_stamp_are_said_to_have_none(report: dict) -> None:
    found = report["cameras"]["/plain/image"]
    assert found["level"] == "note"
    assert found["found"].endswith(", without a stamp") and "clocks" not in found["remedy"]
    assert "driver" in found["remedy"]


def test_a_camera_that_is_silent_is_a_problem(report: dict) -> None:
    found = report["cameras"]["/silent/image"]
    assert (found["level"], "no image arrived" in found["found"]) == ("problem", True)


def test_a_debug_image_is_not_a_camera(report: dict) -> None:
    assert set(report["cameras"]) == {
        *(f"/{name}/image" for name in ("good", "large", "odd", "late", "plain", "silent", "far")),
        "/far/image/compressed",
    }


def test_depth_images_are_no_problem(report: dict) -> None:
    found = report["cameras"]["/far/image"]
    assert found["level"] == "OK" and "16UC1 (depth), " in found["found"]
    silent = report["cameras"]["/far/image/compressed"]
    assert silent["level"] == "note" and "while the raw ones do" in silent["found"]


def test_a_video_is_named_with_what_takes_it() -> None:
    kind = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
    node = SimpleNamespace(
        get_topic_names_and_types=lambda: [
            ("/eye/ffmpeg", [kind]),
            ("/gone/ffmpeg", [kind]),
            ("/eye/image", ["sensor_msgs/msg/Image"]),
        ],
        count_publishers=lambda topic: topic != "/gone/ffmpeg",
    )
    (found,) = _videos(node)
    assert (found.level, found.name) == (Level.NOTE, "/eye/ffmpeg")
    assert found.remedy == "set image_transport to ffmpeg (docs/stack.md)"


def test_a_ros_that_cannot_start_is_one_problem_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOME", "ROS_HOME", "ROS_LOG_DIR"):
        monkeypatch.delenv(name, raising=False)
    (found,) = isolated("cameras", partial(cameras, 0), 60)
    assert found.level is Level.PROBLEM
    assert found.found.startswith("ROS cannot start: failed to initialize logging")
    assert "ROS_LOG_DIR" in found.remedy


def test_remap_rules_do_not_change_where_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    rules = ["-r", "/eye/image:=/elsewhere", "-r", "__node:=other"]
    monkeypatch.setattr(sys, "argv", ["doctor", "--ros-args", *rules])
    camera = client.node.create_publisher(Image, "/eye/image", 5)
    message = image_message(SMALL, client.node.get_clock().now().to_msg())
    ended = Event()

    def send() -> None:
        while not ended.wait(0.05):
            camera.publish(message)

    sender = Thread(target=send)
    sender.start()
    (found,) = cameras(4)
    ended.set()
    sender.join()
    client.close()
    assert (found.level, found.name) == (Level.OK, "/eye/image"), found


def test_a_node_that_security_forbids_is_one_problem_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    (found,) = isolated("cameras", partial(cameras, 0), 60)
    assert found.level is Level.PROBLEM
    assert found.found.startswith("ROS cannot start: ")
    assert "DDS security is on" in found.found
    assert "unset ROS_SECURITY_ENABLE" in found.remedy

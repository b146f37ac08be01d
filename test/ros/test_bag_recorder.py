# SPDX-License-Identifier: Apache-2.0
"""What the recorder writes is opened by every supported rosbag2."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, ROOT, Client
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2DArray

pytest.importorskip("rosbags", reason="recordings are written with rosbags")
from old_rosbag2 import opened_by_old_rosbag2

from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode


def test_humble_opens_what_was_recorded(client: Client, tmp_path: Path) -> None:
    out = Parameter("out", value=str(tmp_path / "node"))
    node = client.host(BagRecorderNode(context=client.context, parameter_overrides=[out]))
    detections = client.node.create_publisher(Detection2DArray, "/detector/detections", 10)
    client.wait_for(detections.get_subscription_count)
    for _ in range(2):
        detections.publish(Detection2DArray())
    client.wait_for(lambda: node._written == 2)
    client.release(node)
    found = opened_by_old_rosbag2(tmp_path / "node")
    counts = {
        entry["topic_metadata"]["name"]: entry["message_count"]
        for entry in found["topics_with_message_count"]
    }
    assert counts == {"/detector/detections": 2, "/diagnostics": 0, "/detector/performance": 0}


def test_a_topic_that_is_given_twice_is_recorded_once(client: Client, tmp_path: Path) -> None:
    given = {"out": str(tmp_path / "node"), "detections": ["found", "/found"]}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = client.host(BagRecorderNode(context=client.context, parameter_overrides=overrides))
    detections = client.node.create_publisher(Detection2DArray, "/found", 10)
    client.wait_for(detections.get_subscription_count)
    detections.publish(Detection2DArray())
    client.wait_for(lambda: node._written)
    client.spin(0.2)
    client.release(node)
    assert Bag([tmp_path / "node"]).topics["/found"].count == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a//b"], "'a//b' cannot be a topic of ROS: give letters, digits and underscores"),
        (["found", ""], "'' cannot be a topic of ROS"),
        (["/diagnostics"], "with incompatible type"),
    ],
)
def test_a_topic_that_ros_refuses_leaves_no_folder(
    client: Client, tmp_path: Path, names: list[str], sentence: str
) -> None:
    """Else the next start, with the right name, would find it."""
    given = {"out": str(tmp_path / "node"), "detections": names}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with pytest.raises((ValueError, RuntimeError), match=re.escape(sentence)):
        BagRecorderNode(context=client.context, parameter_overrides=overrides)
    assert not (tmp_path / "node").exists()


def test_a_recording_that_cannot_be_closed_is_a_failure(
    client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its last messages wait in memory until then."""
    out = Parameter("out", value=str(tmp_path / "node"))
    node = client.host(BagRecorderNode(context=client.context, parameter_overrides=[out]))
    detections = client.node.create_publisher(Detection2DArray, "/detector/detections", 10)
    client.wait_for(detections.get_subscription_count)
    message = Detection2DArray()
    message.header.frame_id = "x" * 20_000
    detections.publish(message)
    client.wait_for(lambda: node._written == 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(SystemExit) as end:
            node.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    node.close = lambda: None
    assert end.value.code == 1
    said = "".join(capfd.readouterr())
    assert "The recording is not closed: File too large; of its 1 messages the last may" in said
    assert "Recorded" not in said


SLOW = """
import sys, time
from rosbags.rosbag2 import Writer
close = Writer.close
def slow(self): time.sleep(3); close(self)
Writer.close = slow
from compact_yolo_ros.ros.run import run
sys.exit(run("bag_recorder_node", ["x", "--ros-args", "-p", f"out:={sys.argv[1]}"]))
"""


def test_a_slow_disk_has_time_to_take_the_recording(tmp_path: Path) -> None:
    """An SD card or a network's disk may take seconds when the file is closed."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as recorder:
        assert recorder.stderr is not None
        assert "Recording to" in recorder.stderr.readline()
        recorder.send_signal(signal.SIGINT)
        said = recorder.communicate(timeout=PATIENCE)[1]
    assert recorder.returncode == 0, said
    assert "Recorded 0 messages" in said
    assert (out / "metadata.yaml").is_file()

# SPDX-License-Identifier: Apache-2.0
"""Every supported rosbag2 opens the recordings that the package writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from bag_writer import PERIOD, START, draw_scene, image, write_bag
from old_rosbag2 import opened_by_old_rosbag2

from compact_yolo_ros.apps.evaluate_bag.detections_recording import write_detections_recording
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.detection.selection import Selection


def test_humble_opens_the_detections_of_an_evaluation(tmp_path: Path) -> None:
    times = [START + number * PERIOD for number in range(3)]
    results = [FrameResult(f"/{n}/image", t, t, "camera", ANSWERED) for n, t in enumerate(times)]
    write_detections_recording(tmp_path / "detections", results, ("red",), Selection())
    found = opened_by_old_rosbag2(tmp_path / "detections")
    assert found["message_count"] == 3
    assert found["duration"]["nanoseconds"] == 2 * PERIOD
    topics = [entry["topic_metadata"] for entry in found["topics_with_message_count"]]
    assert [topic["name"] for topic in topics] == [f"/{n}/image/detections" for n in range(3)]
    assert {topic["type"] for topic in topics} == {DETECTION_ARRAY}
    for name in found["relative_file_paths"]:
        assert (tmp_path / "detections" / name).is_file()


def test_humble_opens_detections_of_which_there_are_none(tmp_path: Path) -> None:
    write_detections_recording(tmp_path / "detections", [], ("red",), Selection())
    assert opened_by_old_rosbag2(tmp_path / "detections")["topics_with_message_count"] == []


def test_humble_refuses_a_list_where_it_wants_a_text(tmp_path: Path) -> None:
    """What newer recorders write; it keeps the two tests above honest."""
    bag = write_bag(tmp_path / "bag", [image(draw_scene(0), 0)])
    with pytest.raises(ValueError, match="offered_qos_profiles is not a scalar"):
        opened_by_old_rosbag2(bag)

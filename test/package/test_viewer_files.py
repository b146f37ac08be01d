# SPDX-License-Identifier: Apache-2.0
"""The files for RViz and Foxglove show topics that the node has, with their types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from compact_yolo_ros.ros.detector.topics import INTERFACES

ROOT = Path(__file__).resolve().parents[2]
RVIZ = yaml.safe_load((ROOT / "config" / "detector.rviz").read_text())
LAYOUT = json.loads((ROOT / "config" / "foxglove_layout.json").read_text())
VIEWERS = (ROOT / "docs" / "viewers.md").read_text()

CAMERA = "/camera/image_raw"
"""The camera in README's first commands."""
TYPES = {CAMERA: "sensor_msgs/msg/Image"} | {
    f"/{row.name.replace('~', 'detector').lstrip('/')}": row.type_name for row in INTERFACES
}
"""The topics of the node /detector, and of its camera."""
IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
SHOWN_BY_RVIZ = {
    "rviz_default_plugins/Image": {"sensor_msgs/msg/Image"},
    "rviz_default_plugins/MarkerArray": {"visualization_msgs/msg/MarkerArray"},
}
"""The displays that come with RViz from Humble on, of those that have a topic."""


def test_rviz_shows_topics_of_the_node_by_displays_that_it_has() -> None:
    displays = RVIZ["Visualization Manager"]["Displays"]
    topics = {each["Topic"]["Value"]: each["Class"] for each in displays if "Topic" in each}
    for topic, display in topics.items():
        assert TYPES[topic] in SHOWN_BY_RVIZ[display], topic
    assert topics.keys() == {CAMERA, "/detector/debug_image", "/detector/markers"}
    assert all(each["Enabled"] and each["Value"] for each in displays)
    others = {each["Class"] for each in displays if "Topic" not in each}
    assert others == {"rviz_default_plugins/Grid"}


def test_the_namespaces_of_the_markers_are_those_in_rviz_and_in_the_manual() -> None:
    source = (ROOT / "compact_yolo_ros" / "ros" / "detector" / "markers.py").read_text()
    (line,) = [line for line in source.splitlines() if line.startswith("BOXES, LABELS, TRACKS")]
    names = json.loads(f"[{line.partition('= ')[2]}]")
    (display,) = [
        each for each in RVIZ["Visualization Manager"]["Displays"] if "Namespaces" in each
    ]
    assert list(display["Namespaces"]) == names
    for name in names:
        assert f"| `{name}` |" in VIEWERS


def words(value: Any) -> Iterator[str]:
    """All keys and texts in a document of JSON."""
    if isinstance(value, dict):
        for key, content in value.items():
            yield from (key, *words(content))
    elif isinstance(value, list):
        for content in value:
            yield from words(content)
    elif isinstance(value, str):
        yield value


def test_foxglove_shows_topics_of_the_node() -> None:
    topics = {word for word in words(LAYOUT) if word.startswith("/")}
    assert topics <= TYPES.keys()
    panels = LAYOUT["configById"]
    shown = {
        TYPES[each["imageMode"]["imageTopic"]] for each in panels.values() if "imageMode" in each
    }
    assert shown == IMAGES
    for wanted in (CAMERA, "/detector/detections", "/diagnostics"):
        assert wanted in topics
    annotations = panels["Image!camera"]["imageMode"]["annotations"]
    assert {TYPES[topic] for topic in annotations} == {"foxglove_msgs/msg/ImageAnnotations"}
    markers = panels["3D!objects"]["topics"]
    assert {TYPES[topic] for topic in markers} == {"visualization_msgs/msg/MarkerArray"}


def test_every_panel_of_foxglove_has_its_place() -> None:
    def places(part: Any) -> list[str]:
        return [part] if isinstance(part, str) else places(part["first"]) + places(part["second"])

    assert sorted(places(LAYOUT["layout"])) == sorted(LAYOUT["configById"])


@pytest.mark.parametrize("name", ["detector.rviz", "foxglove_layout.json"])
def test_the_manual_says_how_to_open_them(name: str) -> None:
    assert f"config/{name}" in VIEWERS and CAMERA in VIEWERS

# SPDX-License-Identifier: Apache-2.0
"""docs/node.md's tables of topics and diagnostics, against the running node."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from harness import DETECTOR, ROOT, Client, forked, image_message, values_of
from sensor_msgs.msg import Image

from compact_yolo_ros.detection.frame_times import STAGES

# Every node has these.
COMMON_TOPICS = {"/parameter_events", "/rosout", "/detector/transition_event"}
COMMON_SERVICES = ("rcl_interfaces/", "lifecycle_msgs/", "type_description_interfaces/")
SOMETIMES = (
    "Where it can be read:",
    "TensorRT only:",
    "While a TensorRT engine is built",
    "While the model is changed",
    "Only after a failure:",
    "Only with a [video]",
    "With a target:",
    "With tracking:",
    "With `tracking`:",
    "With `positions`",
    "With positions:",
    "With `annotations`",
)
"""How the text of a key or a topic begins that not every machine or node has."""


def rows(section: str) -> list[list[str]]:
    """Cells of the first table below a heading of docs/node.md."""
    text = (ROOT / "docs" / "node.md").read_text().split(f"# {section}\n")[1]
    table = text[text.index("| ---") :].split("\n\n")[0].splitlines()[1:]
    lines = [line for line in table if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_shipped_parameter_file_gives_the_documented_node(
    client: Client, tmp_path: Path
) -> None:
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    camera = client.node.create_publisher(Image, "/image", 5)
    good = image_message(np.zeros((64, 64, 3), np.uint8))
    bad = image_message(np.zeros((64, 64, 3), np.uint8), encoding="smell8")
    parameters = str(ROOT / "config" / "detector.yaml")
    performance = client.collect(DiagnosticArray, "/detector/performance")
    with forked(DETECTOR, tmp_path / "node.log", {}, "--params-file", parameters):

        def complete() -> bool:
            camera.publish(good)
            client.spin(0.2)
            camera.publish(bad)
            keys = values_of(diagnostics[-1]) if diagnostics else {}
            return performance and "age_ms p50" in keys and int(keys["errors"]) > 0

        client.wait_for(complete)
        check_topics(client)
        check_policy(client)
    check_keys("Diagnostics", set(values_of(diagnostics[-1])))
    (stages,) = (text for keys, text in rows("Diagnostics") if "<stage>" in keys)
    assert code(stages) == list(STAGES)
    check_keys("Performance of every image", set(values_of(performance[-1])))


def check_topics(client: Client) -> None:
    documented = {
        (kind.split(",")[0], code(name)[0], code(message)[0])
        for name, message, kind, text in rows("Topics and services")
        if not text.startswith(SOMETIMES)
    }
    client.wait_for(lambda: topics(client) >= documented)  # they are found one by one
    assert topics(client) == documented


def check_policy(client: Client) -> None:
    """config/sros2_policy.xml names all that the node publishes, subscribes to and serves."""
    profile = ElementTree.parse(ROOT / "config" / "sros2_policy.xml").find(".//profile")
    assert profile is not None
    allowed = {
        (right, expanded(each.text or ""))
        for group in profile
        for right in group.attrib
        for each in group
    }
    graph, name = client.node, ("detector", "/")
    used = {("publish", topic) for topic, _ in graph.get_publisher_names_and_types_by_node(*name)}
    heard = graph.get_subscriber_names_and_types_by_node(*name)
    used |= {("subscribe", topic) for topic, _ in heard}
    served = graph.get_service_names_and_types_by_node(*name)
    used |= {("reply", service) for service, _ in served}
    assert used <= allowed


def expanded(name: str) -> str:
    """A name of the policy as the node /detector resolves it."""
    return name.replace("~", "/detector") if name.startswith("~") else f"/{name}"


def topics(client: Client) -> set[tuple[str, str, str]]:
    """What the node has now: kind, name and type."""
    graph = client.node
    found = {
        ("publisher", name, kinds[0])
        for name, kinds in graph.get_publisher_names_and_types_by_node("detector", "/")
        if name not in COMMON_TOPICS
    }
    found |= {
        ("subscription", name, kinds[0])
        for name, kinds in graph.get_subscriber_names_and_types_by_node("detector", "/")
        if name not in COMMON_TOPICS
    }
    found |= {
        ("service", name, kinds[0])
        for name, kinds in graph.get_service_names_and_types_by_node("detector", "/")
        if not kinds[0].startswith(COMMON_SERVICES)
    }
    return found


def check_keys(section: str, found: set[str]) -> None:
    documented = {key: text for keys, text in rows(section) for key in code(keys)}
    patterns = {key: re.sub(r"<\w+>", r".+", re.escape(key)) for key in documented}
    for key in found:
        assert any(re.fullmatch(pattern, key) for pattern in patterns.values()), key
    for key, pattern in patterns.items():
        if not documented[key].startswith(SOMETIMES):
            assert any(re.fullmatch(pattern, name) for name in found), key

# SPDX-License-Identifier: Apache-2.0
"""The surroundings of nodes that a command of this package starts."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import ROOT

from compact_yolo_ros.ros.child_process import prepare_environment
from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.fast_dds import (
    DETECTOR_PROFILE,
    PROFILE_VARIABLES,
    SENDER_PROFILE,
    detector_environment,
)

NEW, OLD = PROFILE_VARIABLES
PROFILE = "/share/fastdds_shm.xml"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {NEW: PROFILE}),
        ({"ROS_DISTRO": "jazzy"}, {OLD: PROFILE}),
        ({"ROS_DISTRO": "jazzy", OLD: "/own.xml"}, {OLD: "/own.xml"}),
        ({NEW: "/own.xml"}, {NEW: "/own.xml"}),
    ],
)
def test_nodes_get_the_profile_in_the_variable_that_their_distribution_reads(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[str, str]
) -> None:
    surroundings = dict(environment)
    monkeypatch.setattr(os, "environ", surroundings)
    prepare_environment(Path(PROFILE))
    assert {k: v for k, v in surroundings.items() if k in PROFILE_VARIABLES} == expected
    assert surroundings["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 216 <= int(surroundings["ROS_DOMAIN_ID"]) < 233


def test_a_domain_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    monkeypatch.setattr(os, "environ", surroundings)
    prepare_environment(Path(PROFILE))
    assert surroundings["ROS_DOMAIN_ID"] == "7"
    assert surroundings["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({NEW: PROFILE}, {NEW: "/share/fastdds_detector.xml"}),
        ({"ROS_DISTRO": "humble", OLD: PROFILE}, {OLD: "/share/fastdds_detector.xml"}),
        ({NEW: "/own.xml"}, {}),
        ({}, {}),
    ],
)
def test_a_detector_beside_a_camera_gets_little_shared_memory(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert detector_environment(environment) == expected


def test_a_segment_holds_its_largest_messages_and_the_default_debug_image() -> None:
    """Fast DDS refuses a transport whose messages do not fit into its segment."""
    largest = {}
    for name in (SENDER_PROFILE, DETECTOR_PROFILE):
        text = (ROOT / "config" / name).read_text()
        segment, message = (
            int(re.search(rf"<{tag}>(\d+)</{tag}>", text)[1])
            for tag in ("segment_size", "maxMessageSize")
        )
        assert 2 * message <= segment
        largest[name] = message
    longest = SPECS["debug_image_size"].default
    assert largest[DETECTOR_PROFILE] > 3 * longest**2
    assert largest[SENDER_PROFILE] > 3 * 1920 * 1080

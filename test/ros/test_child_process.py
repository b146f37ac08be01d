# SPDX-License-Identifier: Apache-2.0
"""The surroundings of nodes that a command of this package starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compact_yolo_ros.ros.child_process import prepare_environment
from compact_yolo_ros.ros.fast_dds import PROFILE_VARIABLES

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

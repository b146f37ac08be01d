# SPDX-License-Identifier: Apache-2.0
"""What is said of the processor: how much of its time containers and services may use."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from power_trees import write

from compact_yolo_ros.backends.processor import usable_time

FIRST = "4:cpuset:/\n3:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/docker/1f"
SERVICE = "0::/system.slice/robot.service"


@pytest.mark.parametrize(
    ("own_group", "files", "cores"),
    [
        ("0::/", {}, math.inf),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("", {"cpu.max": "150000 100000"}, 1.5),
        (SERVICE, {"system.slice/robot.service/cpu.max": "50000 100000"}, 0.5),
        (SERVICE, {"system.slice/cpu.max": "200000 100000"}, 2.0),
        (SERVICE, {"user.slice/cpu.max": "200000 100000"}, math.inf),
        (FIRST, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        (FIRST, {"cpu/cpu.cfs_quota_us": "75000", "cpu/cpu.cfs_period_us": "50000"}, 1.5),
        (FIRST, {f"cpu/docker/1f/cpu.cfs_{n}_us": "100000" for n in ("quota", "period")}, 1.0),
        ("nonsense", {"cpu.max": "a b"}, math.inf),
    ],
)
def test_the_time_that_cgroups_leave_is_known(
    tmp_path: Path, own_group: str, files: dict[str, str], cores: float
) -> None:
    """In version 1, in which a container sees its own group as the topmost, and in version 2."""
    write(tmp_path, {"proc/self/cgroup": own_group})
    write(tmp_path / "sys/fs/cgroup", files)
    assert usable_time(tmp_path) == cores

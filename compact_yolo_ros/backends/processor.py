# SPDX-License-Identifier: Apache-2.0
"""What tells one processor from another, for what was timed or compiled on it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_IDENTIFYING = ("model name", "flags", "CPU implementer", "CPU part", "Features")
"""How the lines of /proc/cpuinfo begin that say which processor it is."""


@cache
def processor_digest() -> str:
    """A digest of what Linux says of this processor."""
    lines = kernel_text(Path("/proc/cpuinfo")).splitlines()
    telling = sorted({line for line in lines if line.startswith(_IDENTIFYING)})
    return hashlib.sha256("\n".join(telling).encode()).hexdigest()[:16]


@cache
def computes_half() -> bool:
    """Whether this processor has arithmetic in FP16 for which ONNX Runtime has kernels: ARM's."""
    lines = kernel_text(Path("/proc/cpuinfo")).splitlines()
    return any(line.startswith("Features") and "asimdhp" in line.split() for line in lines)


def usable_time(root: Path = Path("/")) -> float:
    """Seconds of CPU time that cgroups let this process use in a second; infinite without a limit.

    Args:
        root: folder that holds /proc and /sys.
    """
    return min(map(_quota, _cgroups(root)), default=math.inf)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process has for itself: at least one, and no more than it has time for.

    Threads for which there is a core but no time are stopped in between, and all wait for them.

    Args:
        root: folder that holds /proc and /sys.
    """
    return max(1, int(min(len(os.sched_getaffinity(0)), usable_time(root))))


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of the groups whose CPU time this process shares, of both versions of cgroups.

    In a container the path is often the one that the host sees, and its own group the topmost.
    """
    tops = {"0": root / "sys/fs/cgroup", "cpu": root / "sys/fs/cgroup/cpu"}
    yield from tops.values()
    for line in kernel_text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        top = tops.get("cpu" if "cpu" in controllers.split(",") else number)
        names = path.strip("/").split("/")
        if top is not None:
            yield from (top.joinpath(*names[:depth]) for depth in range(1, len(names) + 1))


def _quota(group: Path) -> float:
    """The limit of one group."""
    files = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    for names in files:  # version 2, version 1
        text = " ".join(kernel_text(group / name) for name in names)
        numbers = [int(word) for word in text.split() if word.isdecimal()]  # not "max", not -1
        if len(numbers) == 2 and numbers[1]:
            return numbers[0] / numbers[1]
    return math.inf


def kernel_text(path: Path) -> str:
    """The text of a file of the kernel; empty if there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

# SPDX-License-Identifier: Apache-2.0
"""Permissions: what this user may open of what is there."""

from __future__ import annotations

import grp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from compact_yolo_ros.apps.doctor.finding import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.backends.tensorrt.cache import default_directory

DEVICES = ("dev/nvhost-*", "dev/nvmap", "dev/nvgpu/*/*", "dev/nvidia*", "dev/dxg", "dev/video*")
"""Of GPUs, DLAs and cameras. Folders (such as /dev/nvidia-caps) are left out."""
ENERGY = "sys/class/powercap/intel-rapl:*/energy_uj"


def devices(around: Surroundings) -> Iterator[Finding]:
    """Device files that CUDA, TensorRT and cameras need to read and write."""
    paths = [
        path
        for pattern in DEVICES
        for path in map(Path, around.names(pattern))
        if not _here(around, path).is_dir()
    ]
    closed = [path for path in paths if not os.access(_here(around, path), os.R_OK | os.W_OK)]
    if not paths:
        yield ok("devices", "no device of a GPU or camera is shown")
    elif not closed:
        yield ok("devices", f"all {len(paths)} of GPUs and cameras may be used")
    for group in sorted({_group(_here(around, path)) for path in closed}):
        those = [str(path) for path in closed if _group(_here(around, path)) == group]
        more = f" and {len(those) - 3} more" if len(those) > 3 else ""
        yield problem(
            "devices",
            f"{', '.join(those[:3])}{more} may not be read and written",
            f"sudo usermod -aG {group} $USER, then log in again (in a container: --group-add)",
        )


def meters(around: Surroundings) -> Iterator[Finding]:
    """Files and commands that the power is read from."""
    counters = around.names(ENERGY)
    closed = [path for path in counters if not os.access(_here(around, Path(path)), os.R_OK)]
    if closed:
        yield note(
            "RAPL",
            f"{closed[0]} may not be read, so there are no watts of the processor",
            "docs/power.md has a rule for udev that opens it for a group",
        )
    elif counters:
        yield ok("RAPL", f"{counters[0]} may be read")
    if around.text("etc/nv_tegra_release") is None:
        return
    socket = around.root / "run/jtop.sock"
    if socket.exists() and not os.access(socket, os.R_OK | os.W_OK):
        yield note(
            "jetson-stats",
            "its service runs, but this user may not ask it: the meters are read directly",
            "sudo usermod -aG jtop $USER, then log in again",
        )
    path = shutil.which("tegrastats", path=around.environment.get("PATH"))
    yield ok("tegrastats", path or "not in PATH; needed only where no meter shows itself as a file")


def cache(around: Surroundings) -> Iterator[Finding]:
    """The folder of TensorRT engines."""
    try:
        folder = default_directory()
    except BackendError as error:
        yield note("engine cache", error.reason, error.remedy)
        return
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        yield ok("engine cache", str(folder))
    else:
        yield note(
            "engine cache",
            f"{existing} may not be written: an engine would be built at every start",
            "change its owner, or set the parameter engine_cache to another folder",
        )


def _here(around: Surroundings, path: Path) -> Path:
    return around.root / path.relative_to("/")


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)

# SPDX-License-Identifier: Apache-2.0
"""Permissions: which of the devices, meters and folders of this machine the user may open."""

from __future__ import annotations

import grp
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.backends.tensorrt.cache import default_directory
from compact_yolo_ros.machine.power.jetson import is_jetson
from compact_yolo_ros.machine.power.source import Part
from compact_yolo_ros.machine.power.table import POWER_SOURCES
from compact_yolo_ros.support.error_text import shortened

DEVICES = ("dev/nvhost-*", "dev/nvmap", "dev/nvgpu/*/*", "dev/nvidia*", "dev/dxg", "dev/video*")
"""Device files of GPUs, DLAs and cameras. Folders (such as /dev/nvidia-caps) are left out."""
ANOTHER_CACHE = "set the parameter engine_cache to another folder"

BY_GROUP = stat.S_IRGRP | stat.S_IWGRP


def devices(around: Surroundings) -> Iterator[Finding]:
    """Report which device files, which CUDA, TensorRT and cameras read and write, are closed."""
    paths = [
        path
        for pattern in DEVICES
        for path in map(Path, around.names(pattern))
        if not _here(around, path).is_dir()
    ]
    closed = [path for path in paths if not os.access(_here(around, path), os.R_OK | os.W_OK)]
    if not paths:
        yield ok("devices", "there is no device file of a GPU or camera")
    elif not closed:
        yield ok("devices", f"all {len(paths)} of GPUs and cameras may be used")
    groups = {path: _helpful_group(_here(around, path)) for path in closed}
    for group in sorted(set(groups.values())):
        those = [str(path) for path in closed if groups[path] == group]
        more = f" and {len(those) - 3} more" if len(those) > 3 else ""
        yield problem(
            "devices",
            f"{', '.join(those[:3])}{more} may not be read and written",
            f"sudo usermod -aG {group} $USER, then log in again (in a container: --group-add)"
            if group
            else "no group opens them: install the udev rules of their driver (in a container, "
            "give it the device and a user who may use it)",
        )


def meters(around: Surroundings) -> Iterator[Finding]:
    """Report the files and tools of the power sources that are on this machine."""
    for info in POWER_SOURCES:
        paths = [Path(path) for pattern in info.files for path in around.names(pattern)]
        closed = [path for path in paths if not _may_open(_here(around, path))]
        if closed:
            found = f"{closed[0]} may not be opened, so it is not used"
            yield note(info.name, found, info.permission)
        elif paths:
            yield ok(info.name, f"{paths[0]} may be opened")
        if info.tool and (info.part is not Part.MODULE or is_jetson(around.root)):
            path = shutil.which(info.tool, path=around.environment.get("PATH"))
            yield ok(info.name, path or f"{info.tool} is not in PATH, so it is not used")


def _may_open(path: Path) -> bool:
    """Whether this user may read the file, and write to it if it is a socket."""
    return os.access(path, os.R_OK | os.W_OK if path.is_socket() else os.R_OK)


def cache(around: Surroundings) -> Iterator[Finding]:
    """Report whether the folder of TensorRT engines can be written."""
    try:
        folder = default_directory()
    except BackendError as error:
        yield note("engine cache", error.reason, error.remedy)
        return
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:  # a folder above it is closed, or a name is too long
        yield note("engine cache", f"{shortened(folder)}: {error.strerror}", ANOTHER_CACHE)
        return
    if _may_write(existing):
        yield ok("engine cache", str(folder))
    else:
        yield note(
            "engine cache",
            f"{existing} may not be written: an engine would be built at every start",
            f"change its owner, or {ANOTHER_CACHE}",
        )


def _may_write(folder: Path) -> bool:
    """Whether a file can be made; permissions do not say it of root, and of read-only disks."""
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _here(around: Surroundings, path: Path) -> Path:
    return around.root / path.relative_to("/")


def _helpful_group(path: Path) -> str:
    """The group whose members may use a device; empty if none may, or if it is that of root."""
    may_use = path.stat().st_mode & BY_GROUP == BY_GROUP
    group = _group(path)
    return group if may_use and group != "root" else ""


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)

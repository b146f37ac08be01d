# SPDX-License-Identifier: Apache-2.0
"""Devices: processor, memory, GPU, Jetson, deep learning accelerators."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator

from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok
from compact_yolo_ros.backends.choice import GPU_DEVICES
from compact_yolo_ros.backends.cpu import default_threads
from compact_yolo_ros.backends.processor import usable_time
from compact_yolo_ros.machine.power.jetson import is_jetson

LITTLE_MEMORY = 512 * 2**20
"""Bytes of free memory; a detector node with ONNX Runtime takes about 220 million."""


def processor(around: Surroundings) -> Iterator[Finding]:
    """Report the processor and how much of it this process may use."""
    named = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", around.text("proc/cpuinfo") or "", re.M)
    yield ok("processor", named[1] if named else platform.machine())
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 0
    threads, time = default_threads(around.root), usable_time(around.root)
    limit = f", for the time of {time:g}" if time < usable else ""
    yield ok(
        "cores",
        f"{usable} of {present} may be used{limit}, so cpu_threads 0 means {threads}",
        usable=usable,
        present=present,
        threads=threads,
    )
    if time < 1:
        yield note(
            "container",
            f"it may use {time:.0%} of the time of one core, so that images wait for the rest",
            "raise the limit of the container or service (cpus, CPUQuota)",
        )


def memory(around: Surroundings) -> Iterator[Finding]:
    """Report the main memory."""
    kilobytes = dict(re.findall(r"^(\w+):\s*(\d+) kB", around.text("proc/meminfo") or "", re.M))
    if "MemAvailable" not in kilobytes:
        yield note("memory", "/proc/meminfo does not show it", "check that /proc is mounted")
        return
    total, available = (1024 * int(kilobytes[name]) for name in ("MemTotal", "MemAvailable"))
    found = f"{available / 1e9:.1f} GB of {total / 1e9:.1f} GB are available"
    values = {"total": total, "available": available}
    if available < LITTLE_MEMORY:
        yield note("memory", found, "close other programs: the node takes about 220 MB", **values)
    else:
        yield ok("memory", found, **values)


def jetson(around: Surroundings) -> Iterator[Finding]:
    """Report model and release of a Jetson, and its deep learning accelerators."""
    release = around.text("etc/nv_tegra_release")
    model = around.text("proc/device-tree/model") or ""
    if not is_jetson(around.root):
        return
    numbers = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release or "")
    name = model or "Jetson"
    if numbers is None:
        yield note(
            "Jetson",
            f"{name}; /etc/nv_tegra_release does not name the L4T release",
            "in a container, bind that file from the host",
        )
    elif int(numbers[1]) < 35:
        yield note(
            "Jetson",
            f"{name}, L4T {numbers[1]}.{numbers[2]}, whose TensorRT is older than 8.5",
            "use the CPU backend, or a module that JetPack 5 or later supports",
        )
    else:
        yield ok("Jetson", f"{name}, L4T {numbers[1]}.{numbers[2]}")
    cores = around.names("dev/nvhost-*nvdla*")
    yield ok("DLA", ", ".join(cores) or "there is no device file of a deep learning accelerator")


def gpus(around: Surroundings) -> Iterator[Finding]:
    """Report NVIDIA GPUs, whether or not their libraries work."""
    names = [
        found[1].strip()
        for path in around.names("proc/driver/nvidia/gpus/*/information")
        if (found := re.search(r"^Model:\s*(.+)$", around.text(path[1:]) or "", re.M))
    ]
    shown = gpu_devices(around)
    if not names and not shown:
        yield ok("GPU", "there is no NVIDIA GPU: the network runs on the CPU")
    elif not shown:
        yield note(
            "GPU",
            f"{', '.join(names)}, but /dev has no device file of it",
            "in a container, start it with `--gpus all` (on a Jetson `--runtime nvidia`)",
        )
    else:
        yield ok("GPU", f"{', '.join(names) or 'NVIDIA'} ({', '.join(shown)})")


def gpu_devices(around: Surroundings) -> list[str]:
    """Device files of NVIDIA GPUs that exist."""
    return [str(path) for path in GPU_DEVICES if (around.root / str(path)[1:]).exists()]

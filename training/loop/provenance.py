# SPDX-License-Identifier: Apache-2.0
"""Where results come from: source, packages, command, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from compact_yolo_ros.machine.description import processor_name

PACKAGES = ("torch", "lightning-fabric", "numpy", "opencv-python-headless", "onnx", "onnxruntime")


COMMIT = Path(__file__).parents[2] / ".commit"
"""Written where the source tree was copied to a machine without its repository."""


def source_commit() -> str:
    """Return the commit of the source tree; empty: it is in no git repository and not noted."""
    noted = COMMIT.read_text().strip() if COMMIT.is_file() else ""
    return noted or _git("rev-parse", "HEAD")


def provenance() -> dict[str, Any]:
    """Return versions, source, command and machine of this process as plain values."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [sys.executable, *sys.argv],
        "commit": source_commit(),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "machine": platform.node(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

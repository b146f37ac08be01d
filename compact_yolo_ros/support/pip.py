# SPDX-License-Identifier: Apache-2.0
"""The pip command that installs a package beside the modules of the Linux distribution."""

from __future__ import annotations

import shlex
import sys
import sysconfig
from pathlib import Path

from compact_yolo_ros.support.resources import resource_directory


def pip_line(*packages: str) -> str:
    """Return the command that installs packages on this machine, and keeps apt's modules working.

    pip takes the newest NumPy otherwise, with which modules that apt installed no longer import.
    """
    line = shlex.join(["pip", "install", *_constraints(), *packages])
    return f"in a virtual environment (docs/install.md): {line}" if _refuses_pip() else line


def _constraints() -> list[str]:
    try:
        return ["-c", str(resource_directory("config") / "pip_constraints.txt")]
    except FileNotFoundError:  # installed without its folders
        return []


def _refuses_pip() -> bool:
    """Whether pip installs into a virtual environment only (PEP 668: Ubuntu 24.04, Debian 12)."""
    outside = sys.prefix == sys.base_prefix
    return outside and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()

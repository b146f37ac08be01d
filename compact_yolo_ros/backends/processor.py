# SPDX-License-Identifier: Apache-2.0
"""What tells one processor from another, for what was timed or compiled on it."""

from __future__ import annotations

import hashlib
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


def kernel_text(path: Path) -> str:
    """The text of a file of the kernel; empty if there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

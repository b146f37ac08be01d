# SPDX-License-Identifier: Apache-2.0
"""The libraries of the runtimes: importing them, and how to install one on this machine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.pip import pip_line

JETSON_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class Library:
    """A library that this package uses.

    Attributes:
        name: what people call it.
        module: what is imported to find out whether it works.
        distribution: its name on PyPI.
        purpose: what does not work without it; empty if nothing does.
        install: the command that installs it; empty is pip with the distribution's
            name.
        install_on_jetson: the same on an NVIDIA Jetson; empty if it is no other.
    """

    name: str
    module: str
    distribution: str
    purpose: str = ""
    install: str = ""
    install_on_jetson: str = ""

    @property
    def install_line(self) -> str:
        """The command that installs it on this machine."""
        elsewhere = self.install or pip_line(self.distribution)
        return (self.install_on_jetson or elsewhere) if on_jetson() else elsewhere

    @property
    def installed(self) -> str:
        """What changes when another version is installed; empty if none is. Imports nothing.

        The names of the folders that installers leave beside the library, which hold its version,
        and the age of its file. ``importlib.metadata`` takes 25 ms, which a start does not have.
        """
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            return ""
        with suppress(OSError):
            origin = Path(spec.origin)
            notes = origin.parents[1].glob(f"{self.distribution}-*-info")
            versions = sorted(note.name for note in notes)
            return " ".join([*versions, str(origin.stat().st_mtime_ns)])
        return ""


ONNX = Library("onnx", "onnx", "onnx", "FP16 engines of FP32 files")


def on_jetson() -> bool:
    """Whether this is an NVIDIA Jetson."""
    return JETSON_RELEASE.exists()


def imported(library: Library) -> Any:
    """Import a library and return its module.

    Raises:
        BackendError: it is missing or broken.
    """
    try:
        return import_module(library.module)
    except Exception as error:  # one that is broken raises anything
        raise BackendError(
            f"{library.name} cannot be imported ({first_line(error)})", library.install_line
        ) from None

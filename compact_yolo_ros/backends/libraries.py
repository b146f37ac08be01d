# SPDX-License-Identifier: Apache-2.0
"""Importing the libraries of the runtimes, and what to type to get one on this platform."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.support.error_text import first_line

JETSON_RELEASE = Path("/etc/nv_tegra_release")

_EVERYWHERE = {
    "onnx": "pip install onnx",
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install openvino",
}
_DESKTOP = {
    "tensorrt": "pip install tensorrt",
    "pycuda": "pip install pycuda (it needs the CUDA toolkit and g++)",
}
_JETSON = {
    "tensorrt": "sudo apt install python3-libnvinfer (part of JetPack), and use the system's "
    "Python or a virtual environment with --system-site-packages",
    "pycuda": "PATH=$PATH:/usr/local/cuda/bin pip install pycuda",
}


def on_jetson() -> bool:
    """Whether this is an NVIDIA Jetson."""
    return JETSON_RELEASE.exists()


def install_line(module: str) -> str:
    """The command that installs ``module`` here."""
    return (_EVERYWHERE | (_JETSON if on_jetson() else _DESKTOP))[module]


def imported(module: str, name: str) -> Any:
    """Import a library that people call ``name``.

    Raises:
        BackendError: it is missing or broken.
    """
    try:
        return import_module(module)
    except Exception as error:  # one that is broken raises anything
        raise BackendError(
            f"{name} cannot be imported ({first_line(error)})",
            install_line(module.partition(".")[0]),
        ) from None

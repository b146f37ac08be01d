# SPDX-License-Identifier: Apache-2.0
"""What to type to get a library that is missing, on this platform."""

from __future__ import annotations

from pathlib import Path

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

# SPDX-License-Identifier: Apache-2.0
"""The library TensorRT: importing it, and turning its errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from traceback import clear_frames
from typing import Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.libraries import Library, imported
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.model.store import ModelError

TENSORRT = Library(
    "TensorRT",
    "tensorrt",
    "tensorrt",
    "NVIDIA GPUs",
    install_on_jetson="sudo apt install python3-libnvinfer (part of JetPack), and use the system's "
    "Python or a virtual environment with --system-site-packages",
)
OLDEST = (8, 5)
"""First version with named tensors, ``execute_async_v3`` and uint8 inputs (JetPack 5)."""


def library() -> Any:
    """The module ``tensorrt``; raises BackendError if it is missing or too old."""
    trt = imported(TENSORRT)
    version = tuple(map(int, trt.__version__.split(".")[:2]))
    if version < OLDEST:
        raise BackendError(
            f"TensorRT {trt.__version__} is too old", f"{OLDEST[0]}.{OLDEST[1]} or later is needed"
        )
    return trt


@cache
def logger(trt: Any) -> Any:
    """Return the one logger of the process: TensorRT uses the first for all, as long as it runs."""
    return trt.Logger(trt.Logger.WARNING)


def dla_cores(trt: Any, device: Gpu) -> int:
    """Deep learning accelerators that TensorRT can use here; raises BackendError."""
    with cuda_errors(device):
        return int(trt.Builder(logger(trt)).num_DLA_cores)


@contextmanager
def cuda_errors(device: Gpu) -> Iterator[None]:
    """Make the CUDA context current, and raise nothing but BackendError and ModelError.

    What an exception keeps alive is freed at once: later the context may not be current.
    """
    with device.current():
        try:
            yield
        except Exception as error:
            clear_frames(error.__traceback__)
            if isinstance(error, (BackendError, ModelError)):
                raise
            if isinstance(error, device.driver.Error):
                raise BackendError(f"the GPU failed: {error}") from None
            raise BackendError(  # a TypeError is all that the bindings make of a failed CUDA
                f"TensorRT does not work ({type(error).__name__}: {error})",
                "its own lines above say why; often the driver is older than its CUDA",
            ) from None


def major_version(trt: Any) -> int:
    """10 of TensorRT 10.3."""
    return int(trt.__version__.partition(".")[0])

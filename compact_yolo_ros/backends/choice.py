# SPDX-License-Identifier: Apache-2.0
"""The choice of a runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from compact_yolo_ros.backends.backend import (
    BACKENDS,
    PRECISIONS,
    Backend,
    BackendError,
    EngineMissing,
    Request,
    Size,
)
from compact_yolo_ros.model.store import ModelFile

GPU_DEVICES = tuple(
    map(Path, ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu", "/dev/dxg"))
)
"""Where a GPU shows itself, whether or not its libraries work: desktop, Jetson, WSL."""

SLOW_INT8 = (
    "ONNX Runtime runs an int8 file slower than its fp32 file: take that one, or set backend to "
    "openvino"
)
"""It computes between signed Q/DQ nodes, which TensorRT needs, in FP32; see docs/runtimes.md."""


def open_backend(
    model: ModelFile,
    *,
    backend: str = "auto",
    precision: str = "auto",
    input_size: Size | None = None,
    more_sizes: Iterable[Size] = (),
    threads: int = 0,
    batch: int = 1,
    dla_core: int = -1,
    engine_cache: str = "",
    build: bool = True,
) -> Backend:
    """Open ``model`` for images of one size, or several.

    Args:
        model: the file, from ``find_model``.
        backend: one of ``BACKENDS``; ``auto`` takes TensorRT if it works here, else ONNX Runtime.
        precision: one of ``PRECISIONS``; ``auto`` takes the file as it is. TensorRT makes FP16 of
            an FP32 file; nothing else is converted.
        input_size: (height, width) in pixels; None is the card's default, square.
        more_sizes: others that the backend can be resized to, without delay.
        threads: CPU threads; 0 chooses.
        batch: most images a run.
        dla_core: core of a Jetson's deep learning accelerator; -1 is the GPU. TensorRT only.
        engine_cache: folder of TensorRT engines; empty is ~/.cache/compact_yolo_ros/engines.
        build: build a missing TensorRT engine here and now, which takes minutes.

    Raises:
        EngineMissing: the engine is missing and ``build`` is false.
        BackendError: the runtime is not installed, or refuses the model.
        ValueError: an argument is out of its range.
    """
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend '{backend}': give one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise ValueError(
            f"there is no precision '{precision}': give one of {', '.join(PRECISIONS)}"
        )
    request = Request(
        model,
        input_size or (model.card.default_size, model.card.default_size),
        model.card.precision if precision == "auto" else precision,
        batch,
        threads,
        dla_core,
        Path(engine_cache) if engine_cache else None,
        tuple(more_sizes),
    )
    if backend == "auto":
        return _open_best(request, build)
    opened = _open(backend, request, build)
    opened.choice = "asked for"
    return opened


def _open_best(request: Request, build: bool) -> Backend:
    """TensorRT if it works here, else ONNX Runtime in the file's own precision."""
    try:
        opened = _open("tensorrt", request, build)
        opened.choice = "the fastest, and it works here"
        return opened
    except EngineMissing:
        raise
    except BackendError as error:
        without = error
    held = request.model.card.precision
    opened = _open("onnxruntime", replace(request, precision=held, dla_core=-1), build)
    opened.choice = f"no TensorRT: {without.reason}"
    if any(device.exists() for device in GPU_DEVICES):
        opened.warning = f"the GPU is not used: {without}"
    elif request.precision != held or request.dla_core >= 0:
        opened.warning = f"running {held} on the CPU, which was not asked for: {without.reason}"
    elif held == "int8":
        opened.warning = SLOW_INT8
    return opened


def _open(name: str, request: Request, build: bool) -> Backend:
    """Open one runtime; its library is imported only now."""
    if name == "tensorrt":
        from compact_yolo_ros.backends.tensorrt.run import open_tensorrt

        return open_tensorrt(request, build)
    if request.dla_core >= 0:
        raise BackendError(f"{name} has no DLA", "set dla_core to -1, or backend to tensorrt")
    if name == "openvino":
        from compact_yolo_ros.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(request)
    from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(request)

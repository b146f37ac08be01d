# SPDX-License-Identifier: Apache-2.0
"""TensorRT 8.5 to 11 on an NVIDIA GPU (or a Jetson's DLA), through pycuda.

Not run on a GPU yet: tested against a double of TensorRT's and pycuda's interfaces that enforces
their documented rules, and whose names are checked against NVIDIA's own Python bindings.

Precision lives in the graph: FP32, FP16, or INT8 with Q/DQ nodes. TensorRT 10 and 11 build it
strongly typed; TensorRT 8 needs builder flags to permit what the graph says. What the engine
really computes in is read back from it and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from compact_yolo_ros.backends.backend import (
    OUTPUTS,
    BackendError,
    BackendLost,
    Candidates,
    MissingEngine,
    Opened,
)
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, EngineKey, engine_key
from compact_yolo_ros.backends.tensorrt.cuda import Buffer, Gpu, gpu
from compact_yolo_ros.backends.tensorrt.inspector import precision_shares
from compact_yolo_ros.backends.tensorrt.library import cuda_errors, library
from compact_yolo_ros.backends.tensorrt.plan import BuildProgress, build_plan
from compact_yolo_ros.backends.warm_up import warm_up
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

TYPES = {"images": "UINT8", "boxes": "FLOAT", "scores": "FLOAT", "labels": "INT32"}
"""Types of the contract's tensors, by TensorRT's names."""
NUMPY_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32}
COPY_IN, COMPUTE, COPY_OUT = "copy_in", "compute", "copy_out"


def open_tensorrt(
    model: ModelFile,
    options: RunOptions,
    build: bool = True,
    progress: BuildProgress | None = None,
) -> Opened | MissingEngine:
    """Open an engine for each input size, from the cache or built now.

    Args:
        model: the file.
        options: resolved.
        build: build what is missing, which takes minutes.
        progress: is kept up to date meanwhile.

    Returns:
        The backend; or which engine is missing, if ``build`` is false.

    Raises:
        BackendError: a library is missing, or TensorRT refuses the model.
    """
    trt = library()
    device = gpu()
    with cuda_errors(device):
        return _open(model, options, trt, device, build, progress or BuildProgress())


def _open(
    model: ModelFile,
    options: RunOptions,
    trt: Any,
    device: Gpu,
    build: bool,
    progress: BuildProgress,
) -> Opened | MissingEngine:
    """See ``open_tensorrt``. What it leaves behind is freed while the context is current."""
    engines: dict[Size, Any] = {}
    problems: list[str] = []
    cache = EngineCache(options.engine_cache)
    for size in options.sizes:
        alone = options.change(input_sizes=(size,))
        key = engine_key(model, alone, trt, device)
        engine = _kept_engine(cache, key, trt, device)
        if engine is None and not build:
            return MissingEngine(
                f"there is no engine yet for {model.path.name} on {device.name} at {size}"
            )
        if engine is None:
            plan = build_plan(model, alone, trt, device, cache, key, progress)
            problems.append(_keep(cache, key, plan))
            engine = _deserialize(trt, device, plan, key.dla_core)
            if engine is None:
                raise BackendError("TensorRT built an engine that it cannot load; its log says why")
        engines[size] = engine
    backend = TensorRTBackend(model, options, trt, device, engines)
    warnings = filter(None, (backend.precision_warning, *problems))
    return Opened(backend, warning=next(warnings, ""))


def _kept_engine(cache: EngineCache, key: EngineKey, trt: Any, device: Gpu) -> Any:
    """The engine from the cache; None if there is none that can be used."""
    plan = cache.load(key)
    return None if plan is None else _deserialize(trt, device, plan, key.dla_core)


def _keep(cache: EngineCache, key: EngineKey, plan: bytes) -> str:
    """Store a plan; return why that failed, empty if it did not."""
    try:
        cache.store(key, plan)
    except OSError as error:
        return f"the engine cannot be kept for next time: {error}"
    return ""


class TensorRTBackend:
    """Runs an engine for each size; see ``Backend`` for the attributes.

    It may be opened in one thread and run in another: the CUDA context is taken for each call.
    """

    name = "tensorrt"
    threads = 1

    def __init__(
        self,
        model: ModelFile,
        options: RunOptions,
        trt: Any,
        device: Gpu,
        engines: Mapping[Size, Any],
    ) -> None:
        """Allocate everything that a run needs, and run at every size.

        Raises:
            BackendError: an engine does not have the contract's tensors.
        """
        self.card = model.card
        self.device = device.name
        if options.dla_core >= 0:
            self.device += f", DLA {options.dla_core}"
        self.device_times = dict.fromkeys((COPY_IN, COMPUTE, COPY_OUT), 0.0)
        self._gpu = device
        with device.current():
            self._stream = device.driver.Stream()
            self._events = [device.driver.Event() for _ in range(4)]
            self._networks = {
                size: _Network(
                    trt, device, engine, (options.batch, *size.shape, 3), options.precision
                )
                for size, engine in engines.items()
            }
        warnings = [network.warning for network in self._networks.values() if network.warning]
        self.precision_warning = warnings[0] if warnings else ""
        self.sizes = warm_up(self, options)

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``."""
        driver, stream, network = self._gpu.driver, self._stream, self._network
        began, uploaded, computed, ended = self._events
        try:
            with self._gpu.current():
                network.set_images(images)
                began.record(stream)
                network.buffers["images"].upload(images, stream)
                uploaded.record(stream)
                if not network.execution.execute_async_v3(stream.handle):
                    raise BackendError("TensorRT could not run the engine; its log says why")
                computed.record(stream)
                for name in OUTPUTS:
                    network.buffers[name].download(images, stream)
                ended.record(stream)
                stream.synchronize()
                self.device_times = {
                    COPY_IN: 1e-3 * uploaded.time_since(began),
                    COMPUTE: 1e-3 * computed.time_since(uploaded),
                    COPY_OUT: 1e-3 * ended.time_since(computed),
                }
        except driver.MemoryError as error:
            raise BackendError(f"the GPU failed: {error}") from None
        except driver.Error as error:  # CUDA's other errors stay until the process ends
            raise BackendLost(f"the GPU failed: {error}") from None
        boxes, scores, labels = (network.buffers[name].host[:images] for name in OUTPUTS)
        return boxes, scores, labels

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on."""
        self._network = self._networks[size]
        self.input: np.ndarray = self._network.buffers["images"].host
        self.precision = self._network.precision

    def close(self) -> None:
        """Release the engines and their memory, in whichever thread this is called."""
        with suppress(self._gpu.driver.Error), self._gpu.current():  # it may be lost
            # Diagnostics may still read the shape of the input.
            self.input = np.broadcast_to(np.uint8(0), self.input.shape)
            del self._network, self._networks, self._events, self._stream


class _Network:
    """An engine of one input size, with the memory for a run.

    Attributes:
        execution: its execution context.
        buffers: memory by name of tensor.
        precision: found in the engine.
        warning: set if that is not the requested one.
    """

    def __init__(
        self, trt: Any, device: Gpu, engine: Any, shape: tuple[int, ...], precision: str
    ) -> None:
        """Prepare to run ``shape``, (N, H, W, 3), at most; the CUDA context must be current."""
        _check_tensors(trt, engine)
        self._engine = engine
        self.execution = engine.create_execution_context()
        if self.execution is None:
            raise BackendError("TensorRT cannot run the engine: not enough GPU memory")
        self._image_shape = shape[1:]
        self._images = 0
        self.set_images(shape[0])
        self.buffers: dict[str, Buffer] = {}
        for name in TYPES:  # a comprehension that fails would keep hold of self, see _opening
            self.buffers[name] = self._buffer(device, name)
        self.precision, self.warning = self._read_back(trt, precision)

    def set_images(self, images: int) -> None:
        """Tell TensorRT the size of the batch, if it changed."""
        if images != self._images:
            if not self.execution.set_input_shape("images", (images, *self._image_shape)):
                raise BackendError(f"the engine does not take {images} images at once")
            self._images = images

    def _buffer(self, device: Gpu, name: str) -> Buffer:
        shape = tuple(self.execution.get_tensor_shape(name))
        buffer = Buffer(device.driver, shape, NUMPY_TYPES[TYPES[name]])
        if not self.execution.set_tensor_address(name, buffer.address):
            raise BackendError(f"TensorRT refuses the buffer of {name}")
        return buffer

    def _read_back(self, trt: Any, requested: str) -> tuple[str, str]:
        """The precision found in the engine, and a warning if it is not the requested one."""
        shares: dict[str, float] = {}
        for execution in (self.execution, None):  # formats need the shapes; some fail with them
            inspector = self._engine.create_engine_inspector()
            if execution is not None:
                inspector.execution_context = execution
            report = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
            if shares := precision_shares(report):
                break
        if not shares:
            return "unknown", f"the engine does not report its precision; requested was {requested}"
        found = max(shares, key=lambda name: shares[name])
        if found == requested:
            return found, ""
        return found, (
            f"{requested} was requested, but {shares[found]:.0%} of the engine's values are {found}"
        )


def _deserialize(trt: Any, device: Gpu, plan: bytes, dla_core: int) -> Any:
    """The engine; None if TensorRT does not take it."""
    with device.current():
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        if dla_core >= 0:
            runtime.DLA_core = dla_core
        return runtime.deserialize_cuda_engine(plan)


def _check_tensors(trt: Any, engine: Any) -> None:
    """Raise BackendError unless the engine has the contract's tensors."""
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        found[name] = (is_input, engine.get_tensor_dtype(name))
    wanted = {name: (name == "images", getattr(trt.DataType, kind)) for name, kind in TYPES.items()}
    if found != wanted:
        raise BackendError(
            f"the engine's tensors are {', '.join(sorted(found))}, or of other types than "
            "expected: export the model with `python -m training.export`"
        )

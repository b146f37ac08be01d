# SPDX-License-Identifier: Apache-2.0
"""TensorRT 8.5 to 11 on an NVIDIA GPU (or a Jetson's DLA), through pycuda.

Not run on a GPU yet: tested against a double of TensorRT's and pycuda's interfaces that enforces
their documented rules, and whose names are checked against NVIDIA's own Python bindings.

Precision lives in the graph: FP32, FP16, or INT8 with Q/DQ nodes. TensorRT 10 and 11 build it
strongly typed; TensorRT 8 needs builder flags to permit what the graph says. What the engine
really computes in is read back from it and reported.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from traceback import clear_frames
from typing import Any

import numpy as np

from compact_yolo_ros.backends.backend import (
    OUTPUTS,
    BackendError,
    BackendLost,
    Candidates,
    EngineMissing,
    Request,
    Size,
    warm_up,
)
from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.backends.libraries import imported
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, EngineKey
from compact_yolo_ros.backends.tensorrt.cuda import Buffer, Gpu, gpu

OLDEST = (8, 5)
"""First version with named tensors, ``execute_async_v3`` and uint8 inputs (JetPack 5)."""
WORKSPACE = 512 * 2**20
"""Bytes that a layer may use for scratch: a robot's other processes need memory too."""
TYPES = {"images": "UINT8", "boxes": "FLOAT", "scores": "FLOAT", "labels": "INT32"}
"""Types of the contract's tensors, by TensorRT's names."""
NUMPY_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32}
TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType", "Format")
"""Where the engine inspector tells a tensor's type. TensorRT 11 split the field of 8 and 10; how it
calls the parts is documented for the network's own inputs and outputs only (DataType, Format)."""
COPY_IN, COMPUTE, COPY_OUT = "copy_in", "compute", "copy_out"


class BuildProgress:
    """How far a build is: written by TensorRT's threads, read by whoever tells the user.

    Attributes:
        fraction: 0 to 1; None where TensorRT does not tell, which is before version 10.
    """

    def __init__(self) -> None:
        self.fraction: float | None = None


def open_tensorrt(
    request: Request, build: bool = True, progress: BuildProgress | None = None
) -> TensorRTBackend:
    """Open the engines for ``request``, one a size, from the cache or built now.

    Raises:
        EngineMissing: one is not in the cache, and ``build`` is false.
        BackendError: a library is missing, or TensorRT refuses the model.
    """
    trt = library()
    device = gpu()
    with _opening(device):
        return _open(request, trt, device, build, progress or BuildProgress())


@contextmanager
def _opening(device: Gpu) -> Iterator[None]:
    """Have the CUDA context, and raise nothing but BackendError.

    What an exception keeps alive is freed at once: later the context may not be current.
    """
    with device.current():
        try:
            yield
        except Exception as error:
            clear_frames(error.__traceback__)
            if isinstance(error, BackendError):
                raise
            if isinstance(error, device.driver.Error):
                raise BackendError(f"the GPU failed: {error}") from None
            raise BackendError(  # a TypeError is all that the bindings make of a failed CUDA
                f"TensorRT does not work ({type(error).__name__}: {error})",
                "its own lines above say why; often the driver is older than its CUDA",
            ) from None


def _open(
    request: Request, trt: Any, device: Gpu, build: bool, progress: BuildProgress
) -> TensorRTBackend:
    unsaved = ""
    engines = {}
    for size in request.sizes:
        alone = replace(request, input_size=size, more_sizes=())
        engines[size], problem = _engine(alone, trt, device, build, progress)
        unsaved = unsaved or problem
    backend = TensorRTBackend(request, trt, device, engines)
    backend.warning = backend.warning or unsaved
    return backend


def _engine(
    request: Request, trt: Any, device: Gpu, build: bool, progress: BuildProgress
) -> tuple[Any, str]:
    """The engine for one size, and why it cannot be kept; empty if it is."""
    key = engine_key(request, trt, device)
    cache = EngineCache(request.engine_cache)
    plan = cache.load(key)
    if plan is not None:
        engine = _deserialize(trt, device, plan, request.dla_core)
        if engine is not None:
            return engine, ""
    if not build:
        height, width = request.input_size
        raise EngineMissing(
            f"there is no engine yet for {request.model.path.name} on {device.name} "
            f"at {width}x{height}",
            "build_engine makes it",
        )
    plan = build_plan(request, trt, device, cache, key, progress)
    unsaved = ""
    try:
        cache.store(key, plan)
    except OSError as error:
        unsaved = f"the engine cannot be kept for next time: {error}"
    engine = _deserialize(trt, device, plan, request.dla_core)
    if engine is None:
        raise BackendError("TensorRT built an engine that it cannot load; its log says why")
    return engine, unsaved


def engine_key(request: Request, trt: Any, device: Gpu) -> EngineKey:
    """What the engine for ``request`` depends on, on this machine."""
    return EngineKey(
        model=request.model.path.stem,
        onnx_sha256=hashlib.sha256(request.model.path.read_bytes()).hexdigest(),
        tensorrt=trt.__version__,
        cuda=device.cuda,
        gpu=device.name,
        compute_capability=device.compute_capability,
        precision=request.precision,
        profile=request.shape,
        dla_core=request.dla_core,
    )


class TensorRTBackend:
    """Runs an engine for each size; see ``Backend`` for the attributes.

    It may be opened in one thread and run in another: the CUDA context is taken for each call.
    """

    name = "tensorrt"
    threads = 1

    def __init__(
        self, request: Request, trt: Any, device: Gpu, engines: Mapping[Size, Any]
    ) -> None:
        """Allocate everything that a run needs, and run at every size.

        Raises:
            BackendError: an engine does not have the contract's tensors.
        """
        self.card = request.model.card
        self.device = device.name
        if request.dla_core >= 0:
            self.device += f", DLA {request.dla_core}"
        self.choice = ""
        self.device_times = dict.fromkeys((COPY_IN, COMPUTE, COPY_OUT), 0.0)
        self._gpu = device
        with device.current():
            self._stream = device.driver.Stream()
            self._events = [device.driver.Event() for _ in range(4)]
            self._networks = {
                size: _Network(trt, device, engine, (request.batch, *size, 3), request.precision)
                for size, engine in engines.items()
            }
        warnings = [network.warning for network in self._networks.values() if network.warning]
        self.warning = warnings[0] if warnings else ""
        self.sizes = warm_up(self, request)

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
            # Who tells of this backend meanwhile may still ask for the shape.
            self.input = np.broadcast_to(np.uint8(0), self.input.shape)
            del self._network, self._networks, self._events, self._stream


class _Network:
    """An engine of one input size, with the memory for a run.

    Attributes:
        execution: its execution context.
        buffers: memory by name of tensor.
        precision: found in the engine.
        warning: if that is not what was asked for.
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

    def _read_back(self, trt: Any, asked: str) -> tuple[str, str]:
        """The precision found in the engine, and a warning if it is not the one asked for."""
        shares: dict[str, float] = {}
        for execution in (self.execution, None):  # formats need the shapes; some fail with them
            inspector = self._engine.create_engine_inspector()
            if execution is not None:
                inspector.execution_context = execution
            told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
            if shares := precision_shares(told):
                break
        if not shares:
            return "unknown", f"the engine does not tell its precision; asked for {asked}"
        found = max(shares, key=lambda name: shares[name])
        if found == asked:
            return found, ""
        return found, (
            f"asked for {asked}, but {shares[found]:.0%} of the engine's values are {found}"
        )


def precision_shares(information: str) -> dict[str, float]:
    """Share of the engine's floating and quantised values in each precision.

    Args:
        information: JSON of TensorRT's engine inspector, of an engine built with detail.

    Returns:
        For example ``{"fp16": 0.98, "fp32": 0.02}``, by number of values that layers put out;
        empty if it does not tell.
    """
    words = {
        "fp32": {"FP32", "Float"},
        "fp16": {"FP16", "Half"},
        "bf16": {"BF16", "BFloat16"},
        "int8": {"INT8", "Int8"},
        "fp8": {"FP8"},
    }
    values: Counter[str] = Counter()
    try:
        layers = json.loads(information, strict=False).get("Layers", [])
    except (TypeError, ValueError):
        return {}  # the engine works even if nobody understands what is told of it
    for layer in layers:
        for tensor in layer.get("Outputs", []) if isinstance(layer, dict) else []:
            kind = next((str(tensor[key]) for key in TYPE_KEYS if key in tensor), "")
            said = set(re.findall(r"\w+", kind))
            size = int(np.prod(np.abs(tensor.get("Dimensions") or [1])))
            for name, marks in words.items():
                if marks & said:
                    values[name] += size
    total = sum(values.values())
    return {name: size / total for name, size in values.items()}


def build_plan(
    request: Request,
    trt: Any,
    device: Gpu,
    cache: EngineCache,
    key: EngineKey,
    progress: BuildProgress,
) -> bytes:
    """Build the engine and return it serialised; takes seconds to minutes.

    Raises:
        BackendError: TensorRT refuses the model or what is asked of it.
    """
    graph = _graph(request)
    with device.current():
        logger = trt.Logger(trt.Logger.WARNING)
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(graph):
            said = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
            raise BackendError(f"TensorRT cannot read {request.model.path.name}: {said}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # to read the precision back
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32
        _permit_precision(trt, config, request.precision)
        if request.dla_core >= 0:
            _use_dla(trt, builder, config, request)
        _fix_size(builder, config, request)
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = _monitor(trt, progress)
        timing = config.create_timing_cache(cache.load_timing(key))
        if timing is None or not config.set_timing_cache(timing, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BackendError(
                f"TensorRT cannot build an engine of {request.model.path.name}; its log says why"
            )
        with suppress(OSError):  # it would only make the next build faster
            cache.store_timing(key, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)


def library() -> Any:
    """The module ``tensorrt``; raises BackendError if it is missing or too old."""
    trt = imported("tensorrt", "TensorRT")
    version = tuple(map(int, trt.__version__.split(".")[:2]))
    if version < OLDEST:
        raise BackendError(
            f"TensorRT {trt.__version__} is too old", f"{OLDEST[0]}.{OLDEST[1]} or later is needed"
        )
    return trt


def dla_cores(trt: Any, device: Gpu) -> int:
    """Deep learning accelerators that TensorRT can use here; raises BackendError."""
    with _opening(device):
        return int(trt.Builder(trt.Logger(trt.Logger.WARNING)).num_DLA_cores)


def _major(trt: Any) -> int:
    return int(trt.__version__.partition(".")[0])


def _graph(request: Request) -> bytes:
    """The ONNX file in the precision asked for."""
    data = request.model.path.read_bytes()
    if request.precision == "fp16" and request.model.card.precision == "fp32":
        return to_half(data)
    request.require_file_precision()
    return data


def _network_flags(trt: Any) -> int:
    """TensorRT 8 must be told of the batch dimension, 10 of strong typing, 11 of neither."""
    flags = trt.NetworkDefinitionCreationFlag
    if _major(trt) < 10:
        return 1 << int(flags.EXPLICIT_BATCH)
    return 1 << int(flags.STRONGLY_TYPED) if _major(trt) == 10 else 0


def _permit_precision(trt: Any, config: Any, precision: str) -> None:
    """Before strong typing, the builder uses a lower precision only if a flag permits it."""
    if _major(trt) < 10 and precision != "fp32":
        flags = {"fp16": trt.BuilderFlag.FP16, "int8": trt.BuilderFlag.INT8}
        config.set_flag(flags[precision])


def _use_dla(trt: Any, builder: Any, config: Any, request: Request) -> None:
    if request.dla_core >= builder.num_DLA_cores:
        raise BackendError(
            f"there is no DLA core {request.dla_core}: TensorRT {trt.__version__} sees "
            f"{builder.num_DLA_cores} here",
            "set dla_core to -1",
        )
    if request.precision == "fp32":
        raise BackendError("a DLA does not compute in fp32", "set precision to fp16")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = request.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)  # for the layers that a DLA does not know


def _fix_size(builder: Any, config: Any, request: Request) -> None:
    """One size; any batch up to the largest, except on a DLA, which wants it fixed."""
    largest = request.shape
    smallest = largest if request.dla_core >= 0 else (1, *largest[1:])
    profile = builder.create_optimization_profile()
    profile.set_shape("images", smallest, largest, largest)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT refuses the input shape {largest}")


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


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    """A progress monitor that keeps ``progress.fraction`` up to date."""

    class Monitor(trt.IProgressMonitor):
        """Phases nest: a step of a phase may itself be a phase of several steps."""

        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()
            self._phases: dict[str, tuple[str | None, int, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (parent_phase, 0, max(num_steps, 1))
                self._update()

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                if phase_name in self._phases:  # an exception in here would cancel the build
                    parent, _, steps = self._phases[phase_name]
                    self._phases[phase_name] = (parent, step + 1, steps)
                    self._update()
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                parent, _, _ = self._phases.pop(phase_name, ("", 0, 0))
                if parent is None:
                    progress.fraction = 1.0

        def _update(self) -> None:
            roots = [name for name, (parent, _, _) in self._phases.items() if parent is None]
            done = max((self._done(name) for name in roots), default=0.0)
            progress.fraction = max(progress.fraction or 0.0, done)

        def _done(self, name: str) -> float:
            _, done, steps = self._phases[name]
            children = [key for key, (parent, _, _) in self._phases.items() if parent == name]
            inner = sum(self._done(child) for child in children) / max(len(children), 1)
            return min(1.0, (done + inner) / steps)

    return Monitor()

# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to a TensorRT plan: a serialised engine for one input size on this GPU."""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.cpu import require_file_precision
from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, EngineKey, largest_shape
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.backends.tensorrt.library import logger, major_version
from compact_yolo_ros.backends.tensorrt.source import for_tensorrt
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.model.stored_weights import with_plain_weights

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

WORKSPACE = 512 * 2**20
"""Bytes that a layer may use for scratch: a robot's other processes need memory too."""

KERNEL_LIBRARIES = {"CUBLAS": "libcublas", "CUBLAS_LT": "libcublasLt", "CUDNN": "libcudnn"}
"""Sources of kernels besides TensorRT's own, and what they need. A robot may have left them out,
for they take hundreds of megabytes of memory."""

DECODING = (
    "ACTIVATION", "CONCATENATION", "ELEMENTWISE", "GATHER", "REDUCE", "SOFTMAX", "TOPK", "UNARY",
)  # fmt: skip
"""Kinds of layers in which FP16 would lose boxes' pixels or scores' order."""


class BuildProgress:
    """Progress of a build: written by TensorRT's threads, read by whoever shows it.

    Attributes:
        fraction: 0 to 1; None before TensorRT 10, which has no progress monitor.
    """

    def __init__(self) -> None:
        self.fraction: float | None = None


def build_plan(
    model: ModelFile,
    options: RunOptions,
    trt: Any,
    device: Gpu,
    cache: EngineCache,
    key: EngineKey,
    progress: BuildProgress,
) -> bytes:
    """Build the engine of the first input size and return it serialised.

    That takes seconds to minutes.

    Raises:
        BackendError: TensorRT refuses the model or what is asked of it.
    """
    graph, name = graph_of(model, options, trt), model.path.name
    timing = cache.load_timing(key)
    plan, timing = plan_of_graph(graph, name, options, trt, device, timing, progress)
    with suppress(OSError):  # it would only make the next build faster
        cache.store_timing(key, timing)
    return plan


def plan_of_graph(
    graph: bytes,
    name: str,
    options: RunOptions,
    trt: Any,
    device: Gpu,
    timing: bytes,
    progress: BuildProgress,
) -> tuple[bytes, bytes]:
    """Build an engine of a graph for the first input size.

    Args:
        graph: of ``graph_of``, or the beginning of one.
        name: of the file, for messages.
        options: resolved.
        trt: TensorRT.
        device: for which.
        timing: what earlier builds have timed; empty: nothing.
        progress: is kept up to date meanwhile.

    Returns:
        The serialised engine, and what is known of timings now.

    Raises:
        BackendError: TensorRT refuses the graph or what is asked of it.
    """
    with device.current():
        builder = trt.Builder(logger(trt))
        network = builder.create_network(_network_flags(trt))
        parser = trt.OnnxParser(network, logger(trt))
        if not parser.parse(graph):
            said = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
            raise BackendError(f"TensorRT cannot read {name}: {said}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # to read the precision back
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32
        _leave_out_absent_kernels(trt, config)
        _try_fewer_convolutions(trt, config, device)
        _permit_precision(trt, config, options.precision)
        if major_version(trt) < 10 and options.precision == "fp16":
            _decode_exactly(trt, config, network)
        if options.dla_core >= 0:
            _use_dla(trt, builder, config, options)
        _fix_size(builder, config, options)
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = _monitor(trt, progress)
        timings = config.create_timing_cache(timing)
        if timings is None or not config.set_timing_cache(timings, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BackendError(f"TensorRT cannot build an engine of {name}; its log says why")
        return bytes(plan), bytes(config.get_timing_cache().serialize())


def graph_of(model: ModelFile, options: RunOptions, trt: Any) -> bytes:
    """The ONNX file in the requested precision and shape, as this TensorRT takes it.

    Raises:
        BackendError: it holds another precision, or cannot be made so.
    """
    data = model.path.read_bytes()
    if options.precision == "fp16" and model.card.precision == "fp32":
        data = to_half(data)
    else:
        require_file_precision(model, options)
        data = with_plain_weights(data)
    smallest, largest = _shapes(options)
    shape = [size if size == most else None for size, most in zip(smallest, largest, strict=True)]
    try:
        return for_tensorrt(data, shape, int8_constants=major_version(trt) >= 10)
    except ValueError as error:
        raise BackendError(
            f"{model.path.name} cannot be made into an engine: {error}", "export it again"
        ) from None


def _network_flags(trt: Any) -> int:
    """TensorRT 8 needs a flag for the batch dimension, 10 for strong typing, 11 for neither."""
    flags = trt.NetworkDefinitionCreationFlag
    if major_version(trt) < 10:
        return 1 << int(flags.EXPLICIT_BATCH)
    return 1 << int(flags.STRONGLY_TYPED) if major_version(trt) == 10 else 0


def _leave_out_absent_kernels(trt: Any, config: Any) -> None:
    """Before TensorRT 10, kernels of cuBLAS and cuDNN are tried too, and absent ones are errors."""
    if major_version(trt) < 10:
        absent = [source for source, name in KERNEL_LIBRARIES.items() if not _is_loadable(name)]
        bits = [1 << int(getattr(trt.TacticSource, source)) for source in absent]
        config.set_tactic_sources(config.get_tactic_sources() & ~sum(bits))


def _try_fewer_convolutions(trt: Any, config: Any, device: Gpu) -> None:
    """Have TensorRT 8.5 try few convolutions and compile none: a build takes minutes as it is.

    That is how its engines have run on a GPU (docs/gpu.md). Later versions have a level for it.
    """
    if not hasattr(config, "builder_optimization_level"):
        compiled = 1 << int(trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(config.get_tactic_sources() & ~compiled)
        if int(device.compute_capability.partition(".")[0]) >= 8:  # older GPUs have no such rules
            config.set_flag(trt.BuilderFlag.ENABLE_TACTIC_HEURISTIC)


def _is_loadable(name: str) -> bool:
    """Whether a library of CUDA is installed, in a version for TensorRT 8."""
    for version in ("8", "11", "12"):
        with suppress(OSError):
            ctypes.CDLL(f"{name}.so.{version}")
            return True
    return False


def _permit_precision(trt: Any, config: Any, precision: str) -> None:
    """Before strong typing, the builder uses a lower precision only if a flag permits it."""
    if major_version(trt) < 10 and precision != "fp32":
        flags = {"fp16": trt.BuilderFlag.FP16, "int8": trt.BuilderFlag.INT8}
        config.set_flag(flags[precision])


def _decode_exactly(trt: Any, config: Any, network: Any) -> None:
    """Have what follows the last convolution computed in FP32, as the graph says.

    Before strong typing, a builder that may use FP16 may use it everywhere.
    """
    kind = trt.LayerType
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    convolutions = (n for n, layer in enumerate(layers) if layer.type == kind.CONVOLUTION)
    decoding = [getattr(kind, name) for name in DECODING]
    for layer in layers[max(convolutions, default=-1) + 1 :]:
        output = layer.get_output(0)
        # What has less than two dimensions may be a shape, which is computed elsewhere.
        if layer.type in decoding and output.dtype == trt.DataType.FLOAT and len(output.shape) > 1:
            layer.precision = trt.DataType.FLOAT
            layer.set_output_type(0, trt.DataType.FLOAT)
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


def _use_dla(trt: Any, builder: Any, config: Any, options: RunOptions) -> None:
    if options.dla_core >= builder.num_DLA_cores:
        raise BackendError(
            f"there is no DLA core {options.dla_core}: TensorRT {trt.__version__} sees "
            f"{builder.num_DLA_cores} here",
            "set dla_core to -1",
        )
    if options.precision == "fp32":
        raise BackendError("a DLA does not compute in fp32", "set precision to fp16")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = options.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)  # for the layers that a DLA does not know


def _shapes(options: RunOptions) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One size; any batch up to the largest, except on a DLA, which needs it fixed."""
    largest = largest_shape(options)
    return (largest if options.dla_core >= 0 else (1, *largest[1:])), largest


def _fix_size(builder: Any, config: Any, options: RunOptions) -> None:
    smallest, largest = _shapes(options)
    profile = builder.create_optimization_profile()
    profile.set_shape("images", smallest, largest, largest)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT refuses the input shape {largest}")


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    """A progress monitor that keeps ``progress.fraction`` up to date."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # it has no types
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

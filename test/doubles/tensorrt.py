# SPDX-License-Identifier: Apache-2.0
"""A TEST DOUBLE of TensorRT's Python API: no GPU and no TensorRT, but their documented rules.

It offers what TensorRT 8.5, 8.6, 10 or 11 offers (``TENSORRT_DOUBLE_VERSION``), checks the types
and the order of calls, and runs the graph through ONNX Runtime on the double of device memory that
``pycuda.driver`` beside it keeps. ``test_tensorrt_names.py`` holds its names against NVIDIA's own
bindings. It says nothing about speed, nor about what a real builder makes of a graph.

Other switches: ``TENSORRT_DOUBLE_BUILD_SECONDS``, ``TENSORRT_DOUBLE_BUILD_FAILS`` (1, or the
height of images), ``TENSORRT_DOUBLE_ENGINE_PRECISION`` (what the engine computes in, whatever was
asked), ``TENSORRT_DOUBLE_DLA_CORES``, ``TENSORRT_DOUBLE_NO_CAPTURE`` (an engine cannot be captured
in a CUDA graph), ``TENSORRT_DOUBLE_WRONG`` (engines find nothing in runs of so many images, or in
images of that height).
"""

from __future__ import annotations

import json
import os
import sys
import time
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from pycuda import driver

__version__ = os.environ.get("TENSORRT_DOUBLE_VERSION", "10.3.0")
MAJOR = int(__version__.partition(".")[0])
HAS_LEVEL = not __version__.startswith("8.5")
PLAN_MARK = b"PLAN OF A TEST DOUBLE OF TensorRT\n"
TIMING_MARK = b"TIMING CACHE OF A TEST DOUBLE " + __version__.encode() + b"\n"

print(f"THIS IS A TEST DOUBLE OF TensorRT {__version__}: it computes on the CPU", file=sys.stderr)

NetworkDefinitionCreationFlag = IntEnum(  # type: ignore[misc]
    "NetworkDefinitionCreationFlag",
    {
        8: {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1},
        10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
        11: {"STRONGLY_TYPED": 0},
    }[MAJOR],
)
_WEAK_TYPING_FLAGS = {"FP16": 0, "INT8": 1, "PREFER_PRECISION_CONSTRAINTS": 11}
_HEURISTIC = {"ENABLE_TACTIC_HEURISTIC": 14}
BuilderFlag = IntEnum(  # type: ignore[misc]
    "BuilderFlag",
    {
        "GPU_FALLBACK": 3,
        "REFIT": 4,
        "TF32": 7,
        **(_WEAK_TYPING_FLAGS if MAJOR < 11 else {}),
        **(_HEURISTIC if MAJOR < 10 else {}),
    },
)
DataType = Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])
ProfilingVerbosity = Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED", "NONE"])
LayerInformationFormat = Enum("LayerInformationFormat", ["ONELINE", "JSON"])
LayerType = Enum(
    "LayerType",
    [
        "CONVOLUTION", "ACTIVATION", "CONCATENATION", "ELEMENTWISE", "GATHER", "IDENTITY", "REDUCE",
        "SHUFFLE", "SOFTMAX", "TOPK", "UNARY",
    ],
)  # fmt: skip
_LAYERS = {
    "Conv": "CONVOLUTION", "Clip": "ACTIVATION", "LeakyRelu": "ACTIVATION",
    "Sigmoid": "ACTIVATION", "Concat": "CONCATENATION", "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE", "Sub": "ELEMENTWISE", "Div": "ELEMENTWISE", "Gather": "GATHER",
    "GatherElements": "GATHER", "Cast": "IDENTITY", "ReduceMax": "REDUCE", "Softmax": "SOFTMAX",
    "TopK": "TOPK", "ArgMax": "TOPK", "Exp": "UNARY",
}  # fmt: skip
DeviceType = Enum("DeviceType", ["GPU", "DLA"])
if MAJOR < 10:
    TacticSource = IntEnum(
        "TacticSource",
        {
            "CUBLAS": 0,
            "CUBLAS_LT": 1,
            "CUDNN": 2,
            "EDGE_MASK_CONVOLUTIONS": 3,
            "JIT_CONVOLUTIONS": 4,
        },
    )
if MAJOR >= 10:
    ExecutionContextAllocationStrategy = Enum(
        "ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
    )
    _STATIC = ExecutionContextAllocationStrategy.STATIC
ACTIVATIONS = 4096
"""Bytes of device memory that a context says to need."""

_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT32,
}
_SAID = {  # how the inspector of older and of newer versions names a type
    "fp32": ("Row major linear FP32", "Float"),
    "fp16": ("Channel major FP16 format where channel % 8 == 0", "Half"),
    "int8": ("Thirty-two wide channel vectorized row major Int8 format", "Int8"),
}


def _typed(value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"incompatible function arguments: {value!r} is not a {kind}")


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


class Logger(ILogger):
    def __init__(self, min_severity: ILogger.Severity = ILogger.Severity.WARNING) -> None:
        _typed(min_severity, ILogger.Severity)


class IProfiler:
    def __init__(self) -> None:
        self._constructed = True


def volume(iterable: tuple[int, ...]) -> int:
    return int(np.prod(iterable))


if MAJOR >= 10:

    class IProgressMonitor:
        def __init__(self) -> None:
            self._constructed = True


class IHostMemory(bytearray):
    """A buffer; its bytes are read with ``bytes(...)``."""


class ITensor:
    __slots__ = ("dtype", "name", "shape")

    def __init__(self, info: onnx.ValueInfoProto) -> None:
        self.name = info.name
        self.dtype = _TYPES[info.type.tensor_type.elem_type]
        dimensions = info.type.tensor_type.shape.dim
        self.shape = tuple(-1 if d.dim_param else d.dim_value for d in dimensions)


class ILayer:
    """A layer of a network that is being defined; what it puts out is ``boxes`` or the like."""

    __slots__ = ("_outputs", "_types", "type", *(("precision",) if MAJOR < 11 else ()))

    def __init__(self, kind: LayerType, outputs: list[ITensor]) -> None:
        self.type = kind
        self._outputs = outputs
        self._types: dict[int, DataType] = {}

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if index < len(self._outputs) else None

    if MAJOR < 11:

        def set_output_type(self, index: int, dtype: DataType) -> None:
            _typed(dtype, DataType)
            assert self._outputs[index].dtype in (DataType.FLOAT, DataType.HALF), "not a real type"
            self._types[index] = dtype


class INetworkDefinition:
    __slots__ = ("_flags", "_graph", "_layers")

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._graph: bytes | None = None
        self._layers: list[ILayer] = []

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, index: int) -> ILayer | None:
        return self._layers[index] if index < len(self._layers) else None

    def _exact(self) -> list[str]:
        """Names of what has to be computed in FP32."""
        return sorted(
            layer._outputs[0].name
            for layer in self._layers
            if getattr(layer, "precision", None) == layer._types.get(0) == DataType.FLOAT
        )


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    __slots__ = ("_errors", "_network")

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        _typed(network, INetworkDefinition)
        _typed(logger, ILogger)
        self._network = network
        self._errors: list[ParserError] = []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        _typed(model, bytes)
        if MAJOR == 8 and not self._network._flags & 1:
            raise AssertionError("the ONNX parser needs a network with EXPLICIT_BATCH")
        try:
            graph = onnx.load_from_string(model)
            onnx.checker.check_model(graph, full_check=True)
            _require_constant_kernels(graph.graph)
            _require_cast_images(graph.graph)
            _require_real_constants(graph.graph)
        except Exception as error:
            self._errors.append(ParserError(str(error).partition("\n")[0]))
            return False
        if MAJOR == 8:
            _take_bounds_for_steps(graph.graph)
        self._network._graph = graph.SerializeToString()
        self._network._layers = _layers_of(graph)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


def _require_constant_kernels(graph: onnx.GraphProto) -> None:
    """Raise ValueError as TensorRT 8 does (github.com/onnx/onnx-tensorrt/issues/790)."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {
        name
        for node in graph.node
        if node.op_type in ("Constant", "DequantizeLinear")
        for name in node.output
    }
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] not in constants:
            raise ValueError(
                f"{node.name}: two inputs (data and weights) are allowed only in "
                "explicit-quantization mode."
            )


def _require_cast_images(graph: onnx.GraphProto) -> None:
    """Raise ValueError as NvInferRuntimeBase.h has it of kUINT8."""
    names = {i.name for i in graph.input if i.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    for node in graph.node:
        if names & set(node.input) and node.op_type != "Cast":
            raise ValueError(f"{node.name}: UINT8 inputs have to be cast before anything else")


def _require_real_constants(graph: onnx.GraphProto) -> None:
    """Raise ValueError as TensorRT 8 does (github.com/microsoft/onnxruntime/issues/11535)."""
    kinds = ("QuantizeLinear", "DequantizeLinear")
    zeros = {node.input[2] for node in graph.node if node.op_type in kinds}
    for tensor in graph.initializer:
        is_int8 = tensor.data_type == onnx.TensorProto.INT8
        if MAJOR == 8 and is_int8 and tensor.name not in zeros:
            raise ValueError(f"{tensor.name}: invalid weights type of Int8")


def _take_bounds_for_steps(graph: onnx.GraphProto) -> None:
    """As TensorRT 8.5.3 did on a GPU: a Clip is moved behind the QuantizeLinear that reads it, and
    its bounds are compared with steps. What is clipped to 6 then ends at 6 of 127 steps.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    scales = {n.input[0]: n.input[1] for n in graph.node if n.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == "Clip" and node.output[0] in scales:
            scale = onnx.numpy_helper.to_array(constants[scales[node.output[0]]])
            for place in range(1, len(node.input)):
                bound = onnx.numpy_helper.to_array(constants[node.input[place]])
                node.input[place] = f"{node.output[0]}_bound_{place}"
                steps = onnx.numpy_helper.from_array(bound * scale, node.input[place])
                graph.initializer.append(steps)


def _layers_of(model: onnx.ModelProto) -> list[ILayer]:
    """The layers with what they put out, if its type is known."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    infos = {info.name: info for info in (*graph.value_info, *graph.output)}
    layers = []
    for node in graph.node:
        known = [infos[name] for name in node.output if name in infos]
        known = [info for info in known if info.type.tensor_type.elem_type in _TYPES]
        if len(known) == len(node.output):
            kind = LayerType[_LAYERS.get(node.op_type, "SHUFFLE")]
            layers.append(ILayer(kind, [ITensor(info) for info in known]))
    return layers


class IOptimizationProfile:
    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(
        self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
    ) -> None:
        self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class ITimingCache:
    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._data)


class IBuilderConfig:
    __slots__ = (
        "DLA_core",
        "_flags",
        "_profiles",
        "_sources",
        "_timing",
        "default_device_type",
        "profiling_verbosity",
        *(("builder_optimization_level",) if HAS_LEVEL else ()),
        *(("progress_monitor",) if MAJOR >= 10 else ()),
    )

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._profiles: list[IOptimizationProfile] = []
        self._sources = 0b11111
        self._timing: ITimingCache | None = None
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.default_device_type = DeviceType.GPU
        self.DLA_core = -1
        if HAS_LEVEL:
            self.builder_optimization_level = 3
        if MAJOR >= 10:
            self.progress_monitor = None

    def set_flag(self, flag: BuilderFlag) -> None:
        _typed(flag, BuilderFlag)
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        _typed(flag, BuilderFlag)
        self._flags.discard(flag)

    if MAJOR < 10:

        def get_tactic_sources(self) -> int:
            return self._sources

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            _typed(tactic_sources, int)
            self._sources = tactic_sources
            return True

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        _typed(pool, MemoryPoolType)
        _typed(pool_size, int)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        _typed(profile, IOptimizationProfile)
        least, best, most = map(np.array, profile._shapes["images"])
        if not ((least > 0).all() and (least <= best).all() and (best <= most).all()):
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        _typed(serialized_timing_cache, bytes)
        if serialized_timing_cache and not serialized_timing_cache.startswith(TIMING_MARK):
            return None
        return ITimingCache(serialized_timing_cache or TIMING_MARK)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        _typed(cache, ITimingCache)
        self._timing = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing


class Builder:
    __slots__ = ("_logger",)

    def __init__(self, logger: ILogger) -> None:
        _typed(logger, ILogger)
        driver.require_context("createInferBuilder")
        self._logger = logger

    @property
    def num_DLA_cores(self) -> int:
        return int(os.environ.get("TENSORRT_DOUBLE_DLA_CORES", "0"))

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        _typed(flags, int)
        if flags & ~sum(1 << int(flag) for flag in NetworkDefinitionCreationFlag):
            raise AssertionError(f"TensorRT {__version__} does not know the network flags {flags}")
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        _typed(network, INetworkDefinition)
        _typed(config, IBuilderConfig)
        driver.require_context("buildSerializedNetwork")
        if network._graph is None or not config._profiles:
            return None  # nothing parsed, or dynamic dimensions without a profile
        flags = {flag.name for flag in config._flags}
        strong = MAJOR >= 11 or (MAJOR == 10 and network._flags & 2)
        if strong and flags & set(_WEAK_TYPING_FLAGS):
            return None  # precision flags are an error in a strongly typed network
        on_dla = config.default_device_type == DeviceType.DLA
        profile = config._profiles[0]._shapes["images"]
        if on_dla and profile[0] != profile[2]:
            return None  # a DLA knows no dynamic dimensions
        fails = os.environ.get("TENSORRT_DOUBLE_BUILD_FAILS")
        if not _report_build(config) or fails in ("1", str(profile[2][1])):
            return None
        config._timing._data += b"one more layer\n"
        facts = {
            "version": __version__,
            "profile": profile,
            "sources": config._sources,
            "strong": bool(strong),
            "exact": network._exact(),
            "flags": sorted(flags),
            "detailed": config.profiling_verbosity == ProfilingVerbosity.DETAILED,
            "dla_core": config.DLA_core if on_dla else -1,
        }
        return IHostMemory(PLAN_MARK + json.dumps(facts).encode() + b"\n" + network._graph)


def _report_build(config: IBuilderConfig) -> bool:
    """Take time and call the progress monitor; false if it cancels the build."""
    seconds = float(os.environ.get("TENSORRT_DOUBLE_BUILD_SECONDS", "0"))
    monitor = getattr(config, "progress_monitor", None)
    if monitor is None:
        time.sleep(seconds)
        return True
    assert monitor._constructed, "IProgressMonitor.__init__ was not called"
    monitor.phase_start("Building", None, 2)
    for phase in range(2):
        monitor.phase_start(f"part {phase}", "Building", 5)
        for step in range(5):
            time.sleep(seconds / 10)
            if not monitor.step_complete(f"part {phase}", step):
                return False
        monitor.phase_finish(f"part {phase}")
        if not monitor.step_complete("Building", phase):
            return False
    monitor.phase_finish("Building")
    return True


class Runtime:
    __slots__ = ("DLA_core",)

    def __init__(self, logger: ILogger) -> None:
        _typed(logger, ILogger)
        driver.require_context("createInferRuntime")
        self.DLA_core = -1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        driver.require_context("deserializeCudaEngine")
        if not serialized_engine.startswith(PLAN_MARK):
            return None
        text, _, graph = serialized_engine[len(PLAN_MARK) :].partition(b"\n")
        facts = json.loads(text)
        if facts["version"] != __version__ or facts["dla_core"] != self.DLA_core:
            return None
        return ICudaEngine(facts, bytes(graph))


class ICudaEngine:
    __slots__ = ("_contexts", "_facts", "_graph", "_tensors")

    def __init__(self, facts: dict[str, Any], graph: bytes) -> None:
        self._contexts = 0
        self._facts = facts
        self._graph = graph
        model = onnx.load_from_string(graph)
        inputs = [(ITensor(i), TensorIOMode.INPUT) for i in model.graph.input]
        outputs = [(ITensor(o), TensorIOMode.OUTPUT) for o in model.graph.output]
        self._tensors = {tensor.name: (tensor, mode) for tensor, mode in inputs + outputs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name][1]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name][0].dtype

    if MAJOR < 11:

        @property
        def device_memory_size(self) -> int:
            return ACTIVATIONS

        def create_execution_context_without_device_memory(self) -> IExecutionContext:
            driver.require_context("createExecutionContextWithoutDeviceMemory")
            return IExecutionContext(self)

    if MAJOR >= 10:

        @property
        def device_memory_size_v2(self) -> int:
            return ACTIVATIONS

        def create_execution_context(
            self, strategy: ExecutionContextAllocationStrategy = _STATIC
        ) -> IExecutionContext:
            _typed(strategy, ExecutionContextAllocationStrategy)
            driver.require_context("createExecutionContext")
            return IExecutionContext(self, has_memory=strategy.name != "USER_MANAGED")

    else:

        def create_execution_context(self) -> IExecutionContext:
            driver.require_context("createExecutionContext")
            return IExecutionContext(self, has_memory=True)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def __del__(self) -> None:
        driver.note_freed("an engine")


@lru_cache(maxsize=4)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    """What computes in all contexts of a graph: a session has no state, and takes long to make."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class IExecutionContext:
    """A context, with memory of its own or the application's.

    Before it is captured it must have run at its shape; afterwards it must not be changed.
    """

    __slots__ = (
        "_addresses",
        "_engine",
        "_has_profile",
        "_is_captured",
        "_memory",
        "_own",
        "_ran",
        "_session",
        "_shape",
        "profiler",
    )

    def __init__(self, engine: ICudaEngine, has_memory: bool = False) -> None:
        self._session = _session(engine._graph)
        # before 10, only one context of an engine can have its profile
        self._has_profile = MAJOR >= 10 or engine._contexts == 0
        engine._contexts += 1
        self._engine = engine
        self._shape: tuple[int, ...] | None = None
        self._ran: tuple[int, ...] | None = None
        self._is_captured = False
        self._addresses: dict[str, int] = {}
        self.profiler: IProfiler | None = None
        self._own = driver.mem_alloc(ACTIVATIONS) if has_memory else None
        self._memory = int(self._own) if self._own else 0

    def _set_memory(self, memory: int) -> None:
        _typed(memory, int)
        self._require_unchanged()
        if driver.memory[memory].size < ACTIVATIONS:
            raise AssertionError("the memory of a context is too small")
        self._memory = memory

    device_memory = property(None, _set_memory)
    if MAJOR >= 10:

        def set_device_memory(self, memory: int, size: int) -> None:
            _typed(size, int)
            assert size <= driver.memory[memory].size
            self._set_memory(memory)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        driver.require_context("setInputShape")
        self._require_unchanged()
        least, _, most = self._engine._facts["profile"]
        if name != "images" or not all(
            a <= size <= b for a, size, b in zip(least, shape, most, strict=True)
        ):
            return False
        self._shape = tuple(shape)
        return self._has_profile

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._engine._tensors[name][0].shape
        if self._shape is None:
            return shape
        return self._shape if name == "images" else (self._shape[0], *shape[1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        _typed(memory, int)
        self._require_unchanged()
        if name not in self._engine._tensors or memory not in driver.memory:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        _typed(stream_handle, int)
        driver.require_context("enqueueV3")
        shape, stream = self._shape, driver.streams[stream_handle]
        if shape is None or set(self._addresses) != set(self._engine._tensors):
            return False
        if not (self._has_profile and self._memory):
            return False
        user = driver.users_of_memory.setdefault(self._memory, stream_handle)
        assert user == stream_handle, "contexts on two streams compute in the same memory"
        if stream.is_capturing:
            if self._ran != shape or os.environ.get("TENSORRT_DOUBLE_NO_CAPTURE"):
                stream.invalidate_capture()  # as what is done in a first run does
                return False
            self._is_captured = True
        self._ran = shape
        stream.enqueue(lambda: self._compute(shape))
        return True

    @property
    def engine(self) -> ICudaEngine:
        return self._engine

    def _require_unchanged(self) -> None:
        if self._is_captured:
            raise AssertionError("a context was changed of which there is a CUDA graph")

    def _compute(self, shape: tuple[int, ...]) -> None:
        began = time.perf_counter()
        data = driver.memory[self._addresses["images"]]
        size = int(np.prod(shape))
        assert size <= data.size, "the network reads beyond the end of the input buffer"
        outputs = [name for name in self._addresses if name != "images"]
        results = self._session.run(outputs, {"images": data[:size].reshape(shape).copy()})
        if os.environ.get("TENSORRT_DOUBLE_WRONG") in map(str, shape[:2]):
            results = [np.zeros_like(result) for result in results]
        for name, result in zip(outputs, results, strict=True):
            target = driver.memory[self._addresses[name]]
            assert result.nbytes <= target.size, f"the network writes beyond the buffer of {name}"
            target[: result.nbytes] = np.ascontiguousarray(result).reshape(-1).view(np.uint8)
        if self.profiler is not None:
            self._report_layers(1e3 * (time.perf_counter() - began))

    def _report_layers(self, ms: float) -> None:
        """Every layer takes as long as the others."""
        assert self.profiler is not None and self.profiler._constructed
        model = onnx.load_from_string(self._engine._graph)
        names = [name for name, *_ in _computed(model, self._engine._facts)]
        for name in names:
            self.profiler.report_layer_time(name, ms / len(names))

    def __del__(self) -> None:
        self._engine._contexts -= 1
        driver.note_freed("an execution context")


class EngineInspector:
    __slots__ = ("_engine", "execution_context")

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.execution_context: IExecutionContext | None = None

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        _typed(format, LayerInformationFormat)
        facts, context = self._engine._facts, self.execution_context
        if isinstance(context, IExecutionContext):
            assert context._engine is self._engine, "a context of another engine is inspected"
        model = onnx.load_from_string(self._engine._graph)
        if not facts["detailed"]:
            return json.dumps({"Layers": [node.name for node in model.graph.node]})
        known_shapes = self.execution_context is not None
        kinds = {name: node.op_type for node in model.graph.node for name in node.output}
        layers = [
            {
                "Name": name,
                "LayerType": _layer_type(kinds[name]),
                "Outputs": [_described(name, precision, shape, known_shapes)],
            }
            for name, precision, shape in _computed(model, facts)
        ]
        names = list(self._engine._tensors)
        if MAJOR < 11:
            return json.dumps({"Layers": layers, "Bindings": names})
        return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": name} for name in names]})


def _layer_type(operator: str) -> str:
    return {"Conv": "CaskConvolution", "TopK": "TopK"}.get(operator, "PointWiseV2")


def _described(name: str, precision: str, shape: list[int], known_shapes: bool) -> dict[str, Any]:
    old, new = _SAID[precision] if known_shapes else ["N/A due to dynamic shapes"] * 2
    told = {"Name": name, "Dimensions": shape}
    if MAJOR < 11:
        return {**told, "Format/Datatype": new if MAJOR == 10 else old}
    return {**told, "DataType": new, "Format": "Row major linear FP32 format (kLINEAR)"}


def _computed(model: onnx.ModelProto, facts: dict[str, Any]) -> list[tuple[str, str, list[int]]]:
    """Floating tensors of the graph with the precision that this engine computes them in."""
    fixed = dict(zip(("batch", "height", "width"), facts["profile"][2], strict=False))
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        if dim.dim_param:
            dim.dim_value = fixed[dim.dim_param]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    quantized = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    fused = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    permitted = {"fp32", "fp16", "int8"} if facts["strong"] else {"fp32"}
    permitted |= {flag.lower() for flag in facts["flags"]} & {"fp16", "int8"}
    forced = os.environ.get("TENSORRT_DOUBLE_ENGINE_PRECISION")
    found = []
    for info in inferred.graph.value_info:
        kind = info.type.tensor_type.elem_type
        if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) or info.name in fused:
            continue
        stated = "fp16" if kind == onnx.TensorProto.FLOAT16 else "fp32"
        stated = "int8" if info.name in quantized else stated
        precision = forced or (stated if stated in permitted else "fp32")
        if not forced and "FP16" in facts["flags"] and precision == "fp32":  # it is weakly typed
            precision = "fp32" if info.name in facts["exact"] else "fp16"
        shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
        found.append((info.name, precision, shape))
    return found

# SPDX-License-Identifier: Apache-2.0
"""The doubles of TensorRT and pycuda refuse what the real ones refuse, in every version."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_model import write_toy_model

from compact_yolo_ros.backends.tensorrt.cuda_graph import FUNCTIONS
from compact_yolo_ros.backends.tensorrt.source import for_tensorrt
from compact_yolo_ros.model.stored_weights import with_plain_weights

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "yolo_fastest.onnx"

SHAPE = (1, 320, 320, 3)
CUDA_H = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include" / "cuda.h"
one_version = pytest.mark.parametrize("trt", ["10.3.0"], indirect=True)


@pytest.fixture
def cuda(trt: Any) -> Iterator[Any]:
    """pycuda's driver with a context on this thread."""
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield driver
    gc.collect()  # what a test still holds is freed in the context
    driver.Context.pop()


@pytest.fixture
def parts(trt: Any, cuda: Any, tmp_path: Path) -> SimpleNamespace:
    """A parsed network, and what it takes to build it."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 if trt.MAJOR == 8 else 0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(write_toy_model(tmp_path / "toy.onnx").read_bytes())
    config = builder.create_builder_config()
    config.set_timing_cache(config.create_timing_cache(b""), False)
    profile = builder.create_optimization_profile()
    profile.set_shape("images", SHAPE, SHAPE, SHAPE)
    return SimpleNamespace(
        logger=logger, builder=builder, network=network, config=config, profile=profile
    )


@pytest.fixture
def engine(trt: Any, parts: SimpleNamespace) -> Any:
    parts.config.add_optimization_profile(parts.profile)
    plan = parts.builder.build_serialized_network(parts.network, parts.config)
    return trt.Runtime(parts.logger).deserialize_cuda_engine(bytes(plan))


def test_a_network_with_free_dimensions_needs_a_profile(parts: SimpleNamespace) -> None:
    assert parts.builder.build_serialized_network(parts.network, parts.config) is None


def test_a_profile_must_be_ordered(parts: SimpleNamespace) -> None:
    parts.profile.set_shape("images", (2, *SHAPE[1:]), SHAPE, SHAPE)
    assert parts.config.add_optimization_profile(parts.profile) == -1


def context_of(trt: Any, engine: Any) -> Any:
    if trt.MAJOR < 11:
        return engine.create_execution_context_without_device_memory()
    return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)


@pytest.fixture
def ready(trt: Any, cuda: Any, engine: Any) -> SimpleNamespace:
    """A context that can run, its stream, and what holds its memory."""
    execution, stream = context_of(trt, engine), cuda.Stream()
    execution.set_input_shape("images", SHAPE)
    memory = {name: cuda.mem_alloc(2**20) for name in ("images", "boxes", "scores", "labels")}
    for name, allocation in memory.items():
        execution.set_tensor_address(name, int(allocation))
    memory["activations"] = cuda.mem_alloc(trt.ACTIVATIONS)
    execution.device_memory = int(memory["activations"])
    return SimpleNamespace(execution=execution, stream=stream, memory=memory)


def test_a_run_needs_shape_addresses_and_memory_first(trt: Any, cuda: Any, engine: Any) -> None:
    execution, stream = context_of(trt, engine), cuda.Stream()
    assert not execution.execute_async_v3(stream.handle)
    assert execution.set_input_shape("images", SHAPE)
    assert not execution.execute_async_v3(stream.handle)  # no addresses yet
    allocation = cuda.mem_alloc(2**20)
    for name in ("images", "boxes", "scores", "labels"):
        assert execution.set_tensor_address(name, int(allocation))
    assert not execution.execute_async_v3(stream.handle)  # no memory to compute in
    little = cuda.mem_alloc(1)
    with pytest.raises(AssertionError, match="too small"):
        execution.device_memory = int(little)
    assert not execution.set_tensor_address("images", 12345)  # not of the device
    with pytest.raises(TypeError):
        execution.set_tensor_address("images", cuda.mem_alloc(8))  # a number is wanted


def test_contexts_share_a_profile_from_tensorrt_10_on_only(trt: Any, engine: Any) -> None:
    first, second = context_of(trt, engine), context_of(trt, engine)
    assert first.set_input_shape("images", SHAPE)
    assert second.set_input_shape("images", SHAPE) == (trt.MAJOR >= 10)


def test_contexts_on_two_streams_do_not_share_memory(cuda: Any, ready: SimpleNamespace) -> None:
    assert ready.execution.execute_async_v3(ready.stream.handle)
    other = cuda.Stream()
    with pytest.raises(AssertionError, match="two streams"):
        ready.execution.execute_async_v3(other.handle)


def test_a_capture_needs_a_run_before_and_no_change_afterwards(
    trt: Any, ready: SimpleNamespace
) -> None:
    execution, stream = ready.execution, ready.stream
    library = ctypes.PyDLL("libcuda.so.1")
    begin, end = (
        declared(library, "cuStreamBeginCapture_v2"),
        declared(library, "cuStreamEndCapture"),
    )
    graph = ctypes.c_void_p()
    assert begin(stream.handle, 1) == 0
    assert not execution.execute_async_v3(stream.handle)  # it has not run yet
    assert end(stream.handle, ctypes.byref(graph)) == 901 and not graph
    assert execution.execute_async_v3(stream.handle)
    stream.synchronize()
    assert begin(stream.handle, 1) == 0
    assert execution.execute_async_v3(stream.handle)
    assert end(stream.handle, ctypes.byref(graph)) == 0 and graph
    with pytest.raises(AssertionError, match="CUDA graph"):
        execution.set_input_shape("images", SHAPE)
    assert declared(library, "cuGraphDestroy")(graph) == 0


def declared(library: Any, name: str) -> Any:
    """A function of the driver with its parameters."""
    function = getattr(library, name)
    function.argtypes, function.restype = FUNCTIONS[name], ctypes.c_int
    return function


@one_version
def test_nothing_is_allocated_or_waited_for_in_a_capture(trt: Any, cuda: Any) -> None:
    library, stream, graph = ctypes.PyDLL("libcuda.so.1"), cuda.Stream(), ctypes.c_void_p()
    begin, end = (
        declared(library, f"cuStream{name}") for name in ("BeginCapture_v2", "EndCapture")
    )
    for call in (partial(cuda.mem_alloc, 1), stream.synchronize, cuda.Stream):
        assert begin(stream.handle, 1) == 0
        assert begin(stream.handle, 1) == 1  # it is being captured
        with pytest.raises(cuda.LogicError, match="captur"):
            call()
        assert end(stream.handle, ctypes.byref(graph)) == 901


@one_version
def test_the_driver_is_called_with_the_types_of_its_header(trt: Any, cuda: Any) -> None:
    library = ctypes.PyDLL("libcuda.so.1")
    launch = library.cuGraphLaunch
    launch.argtypes, launch.restype = (ctypes.c_void_p,), ctypes.c_int
    with pytest.raises(AssertionError, match="cuGraphLaunch takes CUgraphExec, CUstream"):
        launch(1)
    stream = cuda.Stream()
    assert declared(library, "cuGraphLaunch")(1, stream.handle) == 400
    assert declared(library, "cuGraphDestroy")(1) == 1
    event = ctypes.c_void_p()
    assert declared(library, "cuEventCreate")(ctypes.byref(event), 0) == 0
    assert declared(library, "cuEventRecordWithFlags")(event, stream.handle, 1) == 1  # no capture
    milliseconds = ctypes.c_float()
    elapsed = declared(library, "cuEventElapsedTime")
    assert elapsed(ctypes.byref(milliseconds), event, event) == 400  # it has not happened
    assert declared(library, "cuEventDestroy_v2")(event) == 0


@one_version
def test_the_double_has_the_prototypes_of_cuda_h(trt: Any) -> None:
    """Where CUDA's header is: an exported name is that of its macro, if it has one."""
    if not CUDA_H.exists():
        pytest.skip("cuda.h is not here")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", CUDA_H.read_text(errors="replace"), flags=re.DOTALL)
    public, _, internal = text.rpartition("#if defined(__CUDA_API_VERSION_INTERNAL)\n")
    macro = r"#\s*define (cu\w+)\s+(?:__CUDA_API_PTSZ\()?(cu\w+)"
    exported = dict(re.findall(macro, public))
    prototypes = {exported.get(name, name): types for name, types in functions_of(public)}
    prototypes.update(functions_of(internal))  # earlier versions, which are still exported
    for name, types in importlib.import_module("pycuda.driver_library").PROTOTYPES.items():
        assert types == prototypes[name], name


def functions_of(text: str) -> list[tuple[str, str]]:
    """Names, and types of the parameters."""
    found = re.findall(r"CUresult CUDAAPI (\w+)\(([^)]*)\);", text)
    return [
        (name, ", ".join(re.sub(r"\s*\b\w+$", "", part.strip()) for part in given.split(",")))
        for name, given in found
    ]


def test_shapes_outside_the_profile_are_refused(trt: Any, engine: Any) -> None:
    execution = context_of(trt, engine)
    assert not execution.set_input_shape("images", (2, *SHAPE[1:]))
    assert not execution.set_input_shape("images", (1, 352, 352, 3))


def test_nothing_happens_before_the_stream_is_synchronised(cuda: Any) -> None:
    stream = cuda.Stream()
    host, device = cuda.pagelocked_empty((4,), np.uint8), cuda.mem_alloc(4)
    began, ended = cuda.Event(), cuda.Event()
    host[:] = 7
    began.record(stream)
    cuda.memcpy_htod_async(device, host, stream)
    cuda.memcpy_dtoh_async(host, device, stream)
    ended.record(stream)
    host[:] = 9  # too early: the copy still reads it
    with pytest.raises(cuda.LogicError, match="not ready"):
        ended.time_since(began)
    stream.synchronize()
    assert (host == 9).all()
    assert ended.time_since(began) >= 0


def test_asynchronous_copies_need_page_locked_memory_and_room(cuda: Any) -> None:
    stream, device = cuda.Stream(), cuda.mem_alloc(4)
    with pytest.raises(AssertionError, match="not page-locked"):
        cuda.memcpy_htod_async(device, np.zeros(4, np.uint8), stream)
    with pytest.raises(AssertionError, match="beyond the end"):
        cuda.memcpy_htod_async(device, cuda.pagelocked_empty((5,), np.uint8), stream)


def test_a_thread_without_the_context_can_do_nothing(trt: Any, cuda: Any) -> None:
    refused = []

    def work() -> None:
        pinned = partial(cuda.pagelocked_empty, (4,), np.uint8)
        for call in (pinned, partial(cuda.mem_alloc, 1), cuda.mem_get_info):
            with pytest.raises(cuda.LogicError, match="invalid device context"):
                call()
            refused.append(call)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert len(refused) == 3


def test_what_is_freed_outside_its_context_is_noted(trt: Any) -> None:
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    stream = driver.Stream()
    driver.Context.pop()
    del stream
    gc.collect()
    assert driver.violations == ["a stream was freed in a thread without its context"]
    driver.violations.clear()


def test_names_that_a_version_does_not_have_are_absent(trt: Any, parts: SimpleNamespace) -> None:
    assert hasattr(trt, "IProgressMonitor") == (trt.MAJOR >= 10)
    assert hasattr(trt.BuilderFlag, "FP16") == (trt.MAJOR < 11)
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == (trt.MAJOR < 11)
    assert hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") == (trt.MAJOR >= 10)
    with pytest.raises(AttributeError):
        parts.config.max_workspace_size = 1  # removed in 10, and nothing here needs it
    if trt.MAJOR < 10:
        with pytest.raises(AttributeError):
            parts.config.progress_monitor = None


def test_tensorrt_8_must_be_told_of_the_batch_dimension(
    trt: Any, parts: SimpleNamespace, tmp_path: Path
) -> None:
    parser = trt.OnnxParser(parts.builder.create_network(0), parts.logger)
    graph = write_toy_model(tmp_path / "again.onnx").read_bytes()
    if trt.MAJOR == 8:
        with pytest.raises(AssertionError, match="EXPLICIT_BATCH"):
            parser.parse(graph)
    else:
        assert parser.parse(graph)


def test_an_engine_of_another_version_is_refused(
    trt: Any, parts: SimpleNamespace, engine: Any
) -> None:
    plan = parts.builder.build_serialized_network(parts.network, parts.config)
    foreign = bytes(plan).replace(trt.__version__.encode(), b"0.0.0")
    assert trt.Runtime(parts.logger).deserialize_cuda_engine(foreign) is None


def test_precision_flags_are_an_error_in_a_strongly_typed_network(
    trt: Any, parts: SimpleNamespace, tmp_path: Path
) -> None:
    if trt.MAJOR != 10:
        return  # 8 has no such networks, 11 no such flags
    network = parts.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag(1)))
    parser = trt.OnnxParser(network, parts.logger)
    assert parser.parse(write_toy_model(tmp_path / "again.onnx").read_bytes())
    parts.config.add_optimization_profile(parts.profile)
    parts.config.set_flag(trt.BuilderFlag.FP16)
    assert parts.builder.build_serialized_network(network, parts.config) is None


def test_the_parser_refuses_a_kernel_behind_a_cast(trt: Any, parts: SimpleNamespace) -> None:
    parser = trt.OnnxParser(parts.network, parts.logger)
    data = SHIPPED.read_bytes()
    assert not parser.parse(data)
    assert "two inputs (data and weights)" in parser.get_error(0).desc()
    plain = with_plain_weights(data)
    parser = trt.OnnxParser(parts.network, parts.logger)
    assert not parser.parse(plain)
    assert "UINT8 inputs have to be cast" in parser.get_error(0).desc()
    taken = for_tensorrt(plain, (None, 320, 320, 3), int8_constants=True)
    assert trt.OnnxParser(parts.network, parts.logger).parse(taken)


def test_the_parser_of_tensorrt_8_refuses_int8_kernels(trt: Any, parts: SimpleNamespace) -> None:
    data = with_plain_weights(SHIPPED.with_name("yolo_ret_m075_int8.onnx").read_bytes())
    for int8_constants in (False, True):
        graph = for_tensorrt(data, (None, 320, 320, 3), int8_constants)
        is_taken = trt.OnnxParser(parts.network, parts.logger).parse(graph)
        assert is_taken == (trt.MAJOR >= 10 or not int8_constants)

# SPDX-License-Identifier: Apache-2.0
"""The doubles of TensorRT and pycuda refuse what the real ones refuse, in every version."""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_model import write_toy_model

from compact_yolo_ros.model.stored_weights import with_plain_weights

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "yolo_fastest.onnx"

SHAPE = (1, 320, 320, 3)


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


def test_a_run_needs_shape_and_addresses_first(cuda: Any, engine: Any) -> None:
    execution, stream = engine.create_execution_context(), cuda.Stream()
    assert not execution.execute_async_v3(stream.handle)
    assert execution.set_input_shape("images", SHAPE)
    assert not execution.execute_async_v3(stream.handle)  # no addresses yet
    assert not execution.set_tensor_address("images", 12345)  # not of the device
    with pytest.raises(TypeError):
        execution.set_tensor_address("images", cuda.mem_alloc(8))  # a number is wanted


def test_shapes_outside_the_profile_are_refused(engine: Any) -> None:
    execution = engine.create_execution_context()
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
    assert trt.OnnxParser(parts.network, parts.logger).parse(with_plain_weights(data))

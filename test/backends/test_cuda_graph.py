# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs and shared memory of the TensorRT backend, against the doubles of test/doubles.

What comes out is compared with ONNX Runtime; what is forbidden in a run proves how it is done.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from compact_yolo_ros.backends import Backend, RunOptions, open_backend
from compact_yolo_ros.model.sizes import Size

Open = Callable[..., Backend]
one_version = pytest.mark.parametrize("trt", ["10.3.0"], indirect=True)
COPIES = ("memcpy_htod_async", "memcpy_dtoh_async")


@pytest.fixture
def opened(trt: Any, toy: str) -> Iterator[Open]:
    """Open the toy detector; nothing of a graph is left in the end."""
    backends = []

    def begin(backend: str = "tensorrt", **options: Any) -> Backend:
        backends.append(open_backend(RunOptions(toy, backend=backend, **options)).backend)
        return backends[-1]

    yield begin
    for backend in backends:
        backend.close()
    library = importlib.import_module("pycuda.driver_library")
    assert (library.graphs, library._events) == ({}, {})


@pytest.fixture
def driver(trt: Any) -> Any:
    return importlib.import_module("pycuda.driver")


def assert_right(backend: Backend, reference: Backend, images: int = 1) -> None:
    """Random pixels give what ONNX Runtime makes of them."""
    reference.input[:images] = np.random.default_rng().integers(0, 256, backend.input.shape)[
        :images
    ]
    backend.input[:images] = reference.input[:images]
    for found, expected in zip(backend.run(images), reference.run(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def forbid(patch: pytest.MonkeyPatch, owner: Any, *names: str) -> None:
    for name in names:
        patch.delattr(owner, name)


def test_a_run_launches_the_graph_of_its_size_and_number_of_images(
    opened: Open, trt: Any, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (Size(320, 320), Size(352, 288))
    backend = opened(input_sizes=sizes, batch=3)
    reference = opened("onnxruntime", input_sizes=sizes, batch=3)
    assert backend.details["cuda_graph"] == "yes"
    with monkeypatch.context() as launched_only:
        forbid(launched_only, driver, *COPIES)
        forbid(launched_only, trt.IExecutionContext, "execute_async_v3", "set_input_shape")
        for size in sizes * 2:
            backend.resize(size)
            reference.resize(size)
            for images in (3, 1, 2):
                assert_right(backend, reference, images)
    times = backend.device_times
    assert set(times) == {"copy_in", "compute", "copy_out"} and min(times.values()) > 0


@one_version
@pytest.mark.parametrize(
    ("switch", "value", "reason"),
    [
        ("TENSORRT_DOUBLE_NO_CAPTURE", "1", "no: TensorRT could not run the engine"),
        ("CUDA_DOUBLE_DRIVER", "11.0", "no: this driver has no cuEventRecordWithFlags"),
    ],
)
def test_without_a_graph_it_runs_and_says_why(
    opened: Open, monkeypatch: pytest.MonkeyPatch, switch: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(switch, value)
    backend = opened(batch=2)
    assert backend.details["cuda_graph"].startswith(reason)
    for images in (1, 2):
        assert_right(backend, opened("onnxruntime", batch=2), images)
    assert min(backend.device_times.values()) > 0


@one_version
def test_the_error_of_cuda_is_told_by_its_name(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = importlib.import_module("pycuda.driver_library")
    monkeypatch.setattr(library, "_cuGraphInstantiateWithFlags", lambda *arguments: 1)
    told = opened().details["cuda_graph"]
    assert told == "no: cuGraphInstantiateWithFlags failed: CUDA_ERROR_INVALID_VALUE"


@one_version
def test_a_missing_driver_library_is_told(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "PyDLL", fail)
    assert opened().details["cuda_graph"].startswith("no: libcuda.so.1 cannot be loaded: ")


@one_version
def test_a_driver_before_11_4_has_another_function_for_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DOUBLE_DRIVER", "11.2")
    backend = opened()
    assert backend.details["cuda_graph"] == "yes"
    assert_right(backend, opened("onnxruntime"))


@pytest.mark.parametrize("graph", ["yes", "no"])
@one_version
def test_a_gpu_that_shares_the_memory_copies_nothing(
    opened: Open, driver: Any, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    monkeypatch.setenv("CUDA_DOUBLE_INTEGRATED", "1")
    if graph == "no":
        monkeypatch.setenv("TENSORRT_DOUBLE_NO_CAPTURE", "1")
    with monkeypatch.context() as never:
        forbid(never, driver, *COPIES)
        backend = opened(batch=2)
        assert backend.details["gpu_memory"] == "shared with the CPU"
        for images in (2, 1):
            assert_right(backend, opened("onnxruntime", batch=2), images)
    assert int(backend.input.ctypes.data) in driver.memory  # the GPU sees the pixels themselves


@one_version
def test_memory_that_is_not_shared_is_not_mapped(opened: Open, driver: Any) -> None:
    backend = opened()
    assert backend.details["gpu_memory"] == "of its own"
    assert int(backend.input.ctypes.data) not in driver.memory

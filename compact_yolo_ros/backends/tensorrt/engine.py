# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, and execution contexts of it that run independently of each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.tensorrt.inspector import precision_shares
from compact_yolo_ros.backends.tensorrt.library import logger, major_version

TYPES = {"images": "UINT8", "boxes": "FLOAT", "scores": "FLOAT", "labels": "INT32"}
"""Types of the contract's tensors, by TensorRT's names."""
NUMPY_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32}


class Engine:
    """A plan that TensorRT has loaded; the CUDA context must be current for all of it.

    Attributes:
        memory: bytes on the device that the layers need while an execution context runs.
    """

    def __init__(self, trt: Any, plan: bytes, dla_core: int) -> None:
        """Load ``plan``.

        Raises:
            BackendError: TensorRT does not take it, or it does not have the contract's tensors.
        """
        self._trt = trt
        self._plan = plan
        self._dla_core = dla_core
        self._loaded = self._load()
        _check_tensors(trt, self._loaded)
        self._is_taken = False
        newer = hasattr(self._loaded, "device_memory_size_v2")  # from TensorRT 10.1 on
        size = "device_memory_size_v2" if newer else "device_memory_size"
        self.memory = int(getattr(self._loaded, size))

    def execution(self, memory: int) -> Any:
        """A new execution context, which computes in the device memory at this address.

        Before TensorRT 10 two of them cannot have the same optimisation profile, and the engine
        has one: each further context then has a copy of the engine.

        Raises:
            BackendError: the GPU's memory does not suffice.
        """
        engine = self._loaded
        if self._is_taken and major_version(self._trt) < 10:
            engine = self._load()
        self._is_taken = True
        execution = self._context(engine)
        if execution is None:
            raise BackendError("TensorRT cannot run the engine: not enough GPU memory")
        if hasattr(execution, "set_device_memory"):
            execution.set_device_memory(memory, self.memory)
        else:
            execution.device_memory = memory
        return execution

    def precision(self, execution: Any, requested: str) -> tuple[str, str]:
        """The precision found in the engine, and a warning if it is not the requested one.

        Args:
            execution: a context of this engine whose shapes are set.
            requested: number format.
        """
        shares: dict[str, float] = {}
        for known in (execution, None):  # formats need the shapes; some fail with them
            inspector = execution.engine.create_engine_inspector()
            if known is not None:
                inspector.execution_context = known
            report = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
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

    def forget_plan(self) -> None:
        """Free the plan: there will be no further contexts."""
        self._plan = b""

    def _load(self) -> Any:
        trt = self._trt
        runtime = trt.Runtime(logger(trt))
        if self._dla_core >= 0:
            runtime.DLA_core = self._dla_core
        engine = runtime.deserialize_cuda_engine(self._plan)
        if engine is None:
            raise BackendError("TensorRT cannot load the engine; its log says why")
        return engine

    def _context(self, engine: Any) -> Any:
        if hasattr(engine, "create_execution_context_without_device_memory"):  # up to 10
            return engine.create_execution_context_without_device_memory()
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return engine.create_execution_context(strategy)


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

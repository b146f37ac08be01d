# SPDX-License-Identifier: Apache-2.0
"""Running an engine: upload, network and download, queued on a stream or launched as a CUDA graph.

TensorRT asks for an execution context for each captured graph, so each number of images has one.
Those of a lane share the memory in which they compute, because they run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from compact_yolo_ros.backends.backend import OUTPUTS, BackendError, Candidates
from compact_yolo_ros.backends.tensorrt.cuda import Buffer, Gpu
from compact_yolo_ros.backends.tensorrt.cuda_graph import CudaGraph, DriverLibrary, Mark
from compact_yolo_ros.backends.tensorrt.engine import NUMPY_TYPES, TYPES, Engine

COPY_IN, COMPUTE, COPY_OUT = PARTS = ("copy_in", "compute", "copy_out")
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream, which others may use."""


class Lane:
    """Where runs happen one after the other; those of two lanes overlap.

    Attributes:
        device: the GPU.
        stream: of pycuda.
        marks: the moments between the parts of a run.
        memory: address of what all engines compute in.
    """

    def __init__(self, device: Gpu, size: int) -> None:
        """Allocate ``size`` bytes to compute in; the CUDA context must be current."""
        self.device = device
        self.stream = device.driver.Stream(NON_BLOCKING)
        self.marks: Sequence[Mark] = [device.driver.Event() for _ in range(len(PARTS) + 1)]
        self._memory = device.driver.mem_alloc(max(size, 1))
        self.memory = int(self._memory)


class Network:
    """An engine of one input size on a lane, with the memory of its tensors.

    Attributes:
        input: (N, H, W, 3) uint8.
        precision: found in the engine.
        warning: set if that is not the requested one.
    """

    def __init__(
        self,
        lane: Lane,
        engine: Engine,
        shape: tuple[int, int, int, int],
        batches: Iterable[int],
        precision: str,
    ) -> None:
        """Prepare to run; the CUDA context must be current.

        Args:
            lane: where.
            engine: of this size.
            shape: (N, H, W, 3) of the largest input.
            batches: the numbers of images that the engine takes, N among them; fewer images run
                as the next larger number.
            precision: that was requested.

        Raises:
            BackendError: TensorRT refuses one of them.
        """
        self._lane = lane
        self._executions: dict[int, Any] = {}
        for images in batches:  # a comprehension that fails would keep hold of self
            self._executions[images] = _execution(engine, lane, (images, *shape[1:]))
        largest = self._executions[shape[0]]
        self._buffers: dict[str, Buffer] = {}
        for name, kind in TYPES.items():
            extent = tuple(largest.get_tensor_shape(name))
            self._buffers[name] = Buffer(lane.device, extent, NUMPY_TYPES[kind])
        for execution in self._executions.values():
            self._set_addresses(execution)
        self._graphs: dict[int, CudaGraph] = {}
        self.input: np.ndarray = self._buffers["images"].host
        self.precision, self.warning = engine.precision(largest, precision)

    def capture(self, library: DriverLibrary) -> None:
        """Capture a CUDA graph for each number of images.

        Raises:
            driver.Error, BackendError: CUDA or TensorRT refuses; runs work without it.
        """
        stream = self._lane.stream
        for images in self._executions:
            self._queue(images, self._lane.marks)  # what TensorRT does in a first run only
            stream.synchronize()
            work = partial(self._queue, images)
            self._graphs[images] = CudaGraph(library, stream, work, len(PARTS) + 1)

    def forget_graphs(self) -> None:
        """Run without graphs from now on."""
        self._graphs.clear()

    def start(self, images: int) -> None:
        """Begin a run on the first ``images`` of ``input``; it must not change until the end.

        Raises:
            BackendError: TensorRT does not take so many, or fails.
            driver.Error: the GPU fails.
        """
        if not 1 <= images <= max(self._executions):
            raise BackendError(f"the engine does not take {images} images at once")
        taken = self._taken(images)
        if taken in self._graphs:
            self._graphs[taken].launch(self._lane.stream)
        else:
            self._queue(taken, self._lane.marks)

    def finish(self, images: int) -> tuple[Candidates, dict[str, float]]:
        """Wait for the end of that run; return its answer, and the seconds of its parts.

        Raises:
            driver.Error: the GPU fails.
        """
        self._lane.stream.synchronize()
        taken = self._taken(images)
        marks = self._graphs[taken].marks if taken in self._graphs else self._lane.marks
        boxes, scores, labels = (self._buffers[name].host[:images] for name in OUTPUTS)
        pairs = zip(PARTS, marks, marks[1:], strict=False)
        seconds = {part: 1e-3 * end.time_since(start) for part, start, end in pairs}
        return (boxes, scores, labels), seconds

    def _taken(self, images: int) -> int:
        """With how many images the engine runs for so many: a DLA takes its whole batch only."""
        return min(taken for taken in self._executions if taken >= images)

    def _queue(self, images: int, marks: Sequence[Mark]) -> None:
        """Queue the parts of a run on the lane's stream, with a mark around each."""
        began, uploaded, computed, ended = marks
        stream = self._lane.stream
        began.record(stream)
        self._buffers["images"].upload(images, stream)
        uploaded.record(stream)
        if not self._executions[images].execute_async_v3(stream.handle):
            raise BackendError("TensorRT could not run the engine; its log says why")
        computed.record(stream)
        for name in OUTPUTS:
            self._buffers[name].download(images, stream)
        ended.record(stream)

    def _set_addresses(self, execution: Any) -> None:
        for name, buffer in self._buffers.items():
            if not execution.set_tensor_address(name, buffer.address):
                raise BackendError(f"TensorRT refuses the buffer of {name}")


def _execution(engine: Engine, lane: Lane, shape: tuple[int, int, int, int]) -> Any:
    """An execution context for inputs of just this shape."""
    execution = engine.execution(lane.memory)
    if not execution.set_input_shape("images", shape):
        raise BackendError(f"the engine does not take {shape[0]} images at once")
    return execution

# SPDX-License-Identifier: Apache-2.0
"""A TEST DOUBLE of pycuda.driver: no GPU, but the rules of one.

Enforced: nothing works without a context current on the calling thread; work queued on a stream
happens when the stream is synchronised, and no earlier; asynchronous copies need page-locked host
memory; copies stay inside their allocation; events are read only after they happened; what is
freed is freed in its context. What is broken silently (in a destructor) is noted in ``violations``.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np

print("THIS IS A TEST DOUBLE OF pycuda: there is no GPU behind it", file=sys.stderr)

violations: list[str] = []
memory: dict[int, np.ndarray] = {}
"""Device memory by address."""
streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()

_addresses = itertools.count(0x7000_0000_0000, 0x1_0000_0000)
_pinned: dict[int, int] = {}
_initialised = False
_thread = threading.local()


class Error(Exception):
    pass


class LogicError(Error):
    pass


class MemoryError(Error):  # pycuda's name
    pass


def init(flags: int = 0) -> None:
    global _initialised
    if os.environ.get("CUDA_DOUBLE_NO_DEVICE"):
        raise LogicError("cuInit failed: no CUDA-capable device is detected")
    _initialised = True


def get_version() -> tuple[int, int, int]:
    return (12, 6, 0)


def _stack() -> list[Context]:
    if not hasattr(_thread, "stack"):
        _thread.stack = []
    return _thread.stack


def require_context(what: str) -> None:
    """Raise unless this thread has a context, as the driver does."""
    lost = os.environ.get("CUDA_DOUBLE_LOST")  # 1, or a file that makes it so
    if lost and (lost == "1" or os.path.exists(lost)):
        raise LogicError(f"{what} failed: unspecified launch failure")
    if not _stack():
        raise LogicError(f"{what} failed: invalid device context")


def note_freed(what: str) -> None:
    if not _stack() and not sys.is_finalizing():
        violations.append(f"{what} was freed in a thread without its context")


class Context:
    def push(self) -> None:
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        if not _stack():
            raise LogicError("context::pop failed: invalid device context - cannot pop")
        _stack().pop()


class Device:
    _primary: Context | None = None

    def __init__(self, number: int) -> None:
        if not _initialised:
            raise LogicError("cuDeviceGet failed: initialization error")
        if number != 0:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    def name(self) -> str:
        return os.environ.get("CUDA_DOUBLE_NAME", "DOUBLE of a GPU")

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)

    def retain_primary_context(self) -> Context:
        Device._primary = Device._primary or Context()
        return Device._primary


class Stream:
    def __init__(self, flags: int = 0) -> None:
        require_context("cuStreamCreate")
        self.handle = next(_addresses)
        self._queue: list[Callable[[], None]] = []
        streams[self.handle] = self

    def enqueue(self, work: Callable[[], None]) -> None:
        self._queue.append(work)

    def synchronize(self) -> None:
        require_context("cuStreamSynchronize")
        while self._queue:
            self._queue.pop(0)()

    def __del__(self) -> None:
        note_freed("a stream")


class Event:
    def __init__(self, flags: int = 0) -> None:
        require_context("cuEventCreate")
        self._at: float | None = None

    def record(self, stream: Stream | None = None) -> Event:
        require_context("cuEventRecord")
        if stream is None:
            raise AssertionError("an event was recorded on the default stream")
        self._at = None
        stream.enqueue(self._happen)
        return self

    def _happen(self) -> None:
        self._at = time.perf_counter()

    def time_since(self, event: Event) -> float:
        """Milliseconds."""
        if self._at is None or event._at is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return 1e3 * (self._at - event._at)


def pagelocked_empty(
    shape: tuple[int, ...], dtype: object, order: str = "C", mem_flags: int = 0
) -> np.ndarray:
    require_context("cuMemHostAlloc")
    array = np.full(shape, 0xA5, dtype)  # not zero: fresh memory holds anything
    address = array.__array_interface__["data"][0]
    _pinned[address] = array.nbytes
    weakref.finalize(array, _pinned.pop, address, None)
    return array


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._address = next(_addresses)
        memory[self._address] = np.full(size, 0xA5, np.uint8)

    def __int__(self) -> int:
        return self._address

    def __del__(self) -> None:
        note_freed("device memory")
        memory.pop(self._address, None)


def mem_alloc(size: int) -> DeviceAllocation:
    require_context("cuMemAlloc")
    if os.environ.get("CUDA_DOUBLE_NO_MEMORY"):
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(size)


def mem_get_info() -> tuple[int, int]:
    """Free and total bytes."""
    require_context("cuMemGetInfo")
    total = 8 * 2**30
    return total - sum(data.nbytes for data in memory.values()), total


def _require_pinned(array: np.ndarray) -> None:
    start = array.__array_interface__["data"][0]
    if not any(a <= start and start + array.nbytes <= a + size for a, size in _pinned.items()):
        raise AssertionError("an asynchronous copy of memory that is not page-locked")
    if not array.flags.c_contiguous:
        raise ValueError("ndarray is not contiguous")


def _bytes_of(device: DeviceAllocation, size: int) -> np.ndarray:
    if size > memory[int(device)].size:
        raise AssertionError("a copy beyond the end of device memory")
    return memory[int(device)][:size]


def memcpy_htod_async(dest: DeviceAllocation, src: np.ndarray, stream: Stream) -> None:
    require_context("cuMemcpyHtoDAsync")
    _require_pinned(src)
    target = _bytes_of(dest, src.nbytes)

    def copy() -> None:
        target[:] = src.reshape(-1).view(np.uint8)

    stream.enqueue(copy)


def memcpy_dtoh_async(dest: np.ndarray, src: DeviceAllocation, stream: Stream) -> None:
    require_context("cuMemcpyDtoHAsync")
    _require_pinned(dest)
    source = _bytes_of(src, dest.nbytes)

    def copy() -> None:
        dest.reshape(-1).view(np.uint8)[:] = source

    stream.enqueue(copy)

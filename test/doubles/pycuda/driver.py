# SPDX-License-Identifier: Apache-2.0
"""A TEST DOUBLE of pycuda.driver: no GPU, but the rules of one.

Enforced: nothing works without a context current on the calling thread; work queued on a stream
happens when the stream is synchronised, and no earlier; asynchronous copies need page-locked host
memory; copies stay inside their allocation; events are read only after they happened; what is
freed is freed in its context; while a stream is captured nothing is allocated or waited for. What
is broken silently (in a destructor) is noted in ``violations``. ``driver_library.py`` is the part
of the driver that is called without pycuda.

Switches: ``CUDA_DOUBLE_NO_DEVICE``, ``CUDA_DOUBLE_LOST`` (1, or a file that makes it so),
``CUDA_DOUBLE_NO_MEMORY``, ``CUDA_DOUBLE_NAME``, ``CUDA_DOUBLE_INTEGRATED`` (a GPU that shares the
machine's memory), ``CUDA_DOUBLE_DRIVER`` (its version, as 11.2).
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace

import numpy as np

print("THIS IS A TEST DOUBLE OF pycuda: there is no GPU behind it", file=sys.stderr)

violations: list[str] = []
memory: dict[int, np.ndarray] = {}
"""Device memory by address."""
streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
users_of_memory: dict[int, int] = {}
"""Handle of the stream on which contexts compute in a piece of device memory."""
device_attribute = Enum("device_attribute", ["CAN_MAP_HOST_MEMORY", "INTEGRATED"])
host_alloc_flags = SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)

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
    lost = os.environ.get("CUDA_DOUBLE_LOST")
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

    def pci_bus_id(self) -> str:
        return "0000:AF:00.0"

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)

    def get_attribute(self, attr: device_attribute) -> int:
        if attr == device_attribute.INTEGRATED:
            return int(os.environ.get("CUDA_DOUBLE_INTEGRATED", "0"))
        return 1

    def retain_primary_context(self) -> Context:
        Device._primary = Device._primary or Context()
        return Device._primary


class Stream:
    """A stream, which is executed when it is synchronised.

    Attributes:
        captured: what a capture has recorded so far; None outside one.
    """

    def __init__(self, flags: int = 0) -> None:
        require_context("cuStreamCreate")
        _require_no_capture("cuStreamCreate")
        self.handle = next(_addresses)
        self._queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.is_invalid = False
        self.capturing_thread = 0
        streams[self.handle] = self

    @property
    def is_capturing(self) -> bool:
        return self.captured is not None

    def invalidate_capture(self) -> None:
        self.is_invalid = True

    def enqueue(self, work: Callable[[], None]) -> None:
        if self.captured is None:
            self._queue.append(work)
        else:
            self.captured.append(work)

    def synchronize(self) -> None:
        require_context("cuStreamSynchronize")
        if self.is_capturing:
            self.invalidate_capture()
            raise LogicError("cuStreamSynchronize failed: operation not permitted while capturing")
        while self._queue:
            self._queue.pop(0)()

    def __del__(self) -> None:
        note_freed("a stream")


def _require_no_capture(what: str) -> None:
    """Raise, and end the capture in vain, if this thread captures a stream."""
    mine = [s for s in streams.values() if s.capturing_thread == threading.get_ident()]
    for stream in mine:
        stream.invalidate_capture()
    if mine:
        raise LogicError(f"{what} failed: operation not permitted when stream is capturing")


class Event:
    def __init__(self, flags: int = 0) -> None:
        require_context("cuEventCreate")
        self._at: float | None = None

    def record(self, stream: Stream | None = None) -> Event:
        require_context("cuEventRecord")
        if stream is None:
            raise AssertionError("an event was recorded on the default stream")
        self._at = None
        if not stream.is_capturing:  # else it is a dependency, and never a moment
            stream.enqueue(self._happen)
        return self

    def _happen(self) -> None:
        self._at = time.perf_counter()

    def time_since(self, event: Event) -> float:
        """Milliseconds."""
        if self._at is None or event._at is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return 1e3 * (self._at - event._at)


class PagelockedHostAllocation:
    """What the arrays of ``pagelocked_empty`` have as their ``base``."""

    def __init__(self, shape: tuple[int, ...], dtype: object, flags: int) -> None:
        self._memory = np.full(shape, 0xA5, dtype)  # not zero: fresh memory holds anything
        self.__array_interface__ = self._memory.__array_interface__
        self._address = self.__array_interface__["data"][0]
        _pinned[self._address] = self._memory.nbytes
        self._is_mapped = bool(flags & host_alloc_flags.DEVICEMAP)
        if self._is_mapped:
            memory[self._address] = self._memory.reshape(-1).view(np.uint8)

    def get_device_pointer(self) -> int:
        require_context("cuMemHostGetDevicePointer")
        if not self._is_mapped:
            raise LogicError("cuMemHostGetDevicePointer failed: invalid argument")
        return int(self._address)

    def __del__(self) -> None:
        _pinned.pop(self._address, None)
        if self._is_mapped:
            memory.pop(self._address, None)


def pagelocked_empty(
    shape: tuple[int, ...], dtype: object, order: str = "C", mem_flags: int = 0
) -> np.ndarray:
    require_context("cuMemHostAlloc")
    _require_no_capture("cuMemHostAlloc")
    return np.asarray(PagelockedHostAllocation(shape, dtype, mem_flags))


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
    _require_no_capture("cuMemAlloc")
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


from pycuda import driver_library  # noqa: E402

driver_library.stand_in()

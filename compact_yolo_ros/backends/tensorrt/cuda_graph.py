# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: what a stream does, captured once and launched by one call from then on.

pycuda has nothing for them, so the driver's own functions are called, in the context that pycuda
made. Their signatures are those of the CUDA Driver API (modules Stream, Event and Graph Management)
from 11.1 to 13; only instantiation has another function up to 11.3.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint,
    c_ulonglong,
    c_void_p,
)
from typing import Any, Protocol

DRIVER_LIBRARY = "libcuda.so.1"
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventRecordWithFlags": (c_void_p, c_void_p, c_uint),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphInstantiate_v2": (
        POINTER(c_void_p),
        c_void_p,
        POINTER(c_void_p),
        c_char_p,
        c_size_t,
    ),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
}
"""Types of the parameters of the functions in use; all return a CUresult, 0 for success."""
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do on the GPU does not end a capture."""
EXTERNAL = 1
"""CU_EVENT_RECORD_EXTERNAL: an event that is recorded anew by every launch of the graph."""
OUT_OF_MEMORY = 2


class Mark(Protocol):
    """A moment on the GPU: an event of pycuda, or one of a graph."""

    def record(self, stream: Any) -> object:
        """Have the moment noted when the stream gets there."""

    def time_since(self, earlier: Any) -> float:
        """Milliseconds since another mark, when both are in the past."""


class DriverLibrary:
    """The driver's functions, called with checked types and results.

    The CUDA context must be current. What fails raises pycuda's own errors.
    """

    def __init__(self, driver: Any) -> None:
        """Load the library that pycuda uses too.

        Args:
            driver: ``pycuda.driver``.

        Raises:
            driver.Error: it cannot be loaded.
        """
        self._driver = driver
        try:
            # Unlike CDLL it keeps other Python threads waiting during these short calls: they
            # would not let this one go on at once.
            library = ctypes.PyDLL(DRIVER_LIBRARY)
        except OSError as error:
            raise driver.Error(f"{DRIVER_LIBRARY} cannot be loaded: {error}") from None
        self._functions: dict[str, Any] = {}
        for name, types in FUNCTIONS.items():
            if hasattr(library, name):
                self._functions[name] = getattr(library, name)
                self._functions[name].argtypes = types
                self._functions[name].restype = c_int

    def has(self, name: str) -> bool:
        """Whether this version of the driver has a function."""
        return name in self._functions

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of ``FUNCTIONS``; raise ``driver.Error`` unless it succeeds."""
        if not self.has(name):
            raise self._driver.Error(f"this driver has no {name}")
        if result := self._functions[name](*arguments):
            kind = self._driver.MemoryError if result == OUT_OF_MEMORY else self._driver.Error
            raise kind(f"{name} failed: {self._name(result)}")

    def free(self, name: str, *handles: Any) -> None:
        """Call a function of which nothing is expected: the context may be lost."""
        with suppress(self._driver.Error):
            self.call(name, *handles)

    def _name(self, result: int) -> str:
        """As ``CUDA_ERROR_STREAM_CAPTURE_INVALIDATED``."""
        name = c_char_p()
        self._functions["cuGetErrorName"](result, byref(name))
        return name.value.decode() if name.value else f"error {result}"


class GraphEvent:
    """A mark in a graph; see ``Mark``. pycuda does not give the handles of its events."""

    def __init__(self, library: DriverLibrary) -> None:
        """Create it in the current context."""
        self._library = library
        self._handle = c_void_p()
        library.call("cuEventCreate", byref(self._handle), 0)

    def record(self, stream: Any) -> None:
        """Have every launch of the graph that is being captured note the moment."""
        self._library.call("cuEventRecordWithFlags", self._handle, stream.handle, EXTERNAL)

    def time_since(self, earlier: GraphEvent) -> float:
        """Milliseconds in the last launch."""
        milliseconds = c_float()
        self._library.call("cuEventElapsedTime", byref(milliseconds), earlier._handle, self._handle)
        return milliseconds.value

    def __del__(self) -> None:
        """Free it; the context must be current."""
        if self._handle:
            self._library.free("cuEventDestroy_v2", self._handle)


class CudaGraph:
    """Work of a stream that is ready to be launched.

    Attributes:
        marks: moments in it; of the last launch.
    """

    def __init__(
        self,
        library: DriverLibrary,
        stream: Any,
        work: Callable[[Sequence[Mark]], object],
        marks: int,
    ) -> None:
        """Capture the work; it must have happened once outside a graph.

        Args:
            library: the driver.
            stream: of pycuda, not the default one.
            work: queues the work on the stream, and records the marks that it is given.
            marks: how many that are.

        Raises:
            driver.Error: the driver refuses what is done in it, or has no graphs.
            Exception: what ``work`` raises.
        """
        self._library = library
        self._executable = c_void_p()
        self.marks = [GraphEvent(library) for _ in range(marks)]
        graph = self._captured(stream, work)
        try:
            self._instantiate(graph)
        finally:
            library.call("cuGraphDestroy", graph)

    def launch(self, stream: Any) -> None:
        """Queue the work."""
        self._library.call("cuGraphLaunch", self._executable, stream.handle)

    def _captured(self, stream: Any, work: Callable[[Sequence[Mark]], object]) -> c_void_p:
        graph = c_void_p()
        self._library.call("cuStreamBeginCapture_v2", stream.handle, THREAD_LOCAL)
        try:
            work(self.marks)
        except BaseException:  # the stream must not stay in capture
            self._library.free("cuStreamEndCapture", stream.handle, byref(graph))
            if graph:
                self._library.free("cuGraphDestroy", graph)
            raise
        self._library.call("cuStreamEndCapture", stream.handle, byref(graph))
        return graph

    def _instantiate(self, graph: c_void_p) -> None:
        executable = byref(self._executable)
        if self._library.has("cuGraphInstantiateWithFlags"):
            self._library.call("cuGraphInstantiateWithFlags", executable, graph, 0)
        else:  # before CUDA 11.4
            self._library.call("cuGraphInstantiate_v2", executable, graph, None, None, 0)

    def __del__(self) -> None:
        """Free it; the context must be current."""
        if self._executable:
            self._library.free("cuGraphExecDestroy", self._executable)

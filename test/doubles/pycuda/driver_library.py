# SPDX-License-Identifier: Apache-2.0
"""A TEST DOUBLE of the part of libcuda.so.1 that is called without pycuda: CUDA graphs.

``ctypes.PyDLL`` hands it out. The parameters of each function are those of cuda.h: a caller must
have declared the same ones. A graph repeats what was queued on the stream while it was captured.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from pycuda import driver

NAME = "libcuda.so.1"
PROTOTYPES = {
    "cuEventCreate": "CUevent *, unsigned int",
    "cuEventDestroy_v2": "CUevent",
    "cuEventElapsedTime": "float *, CUevent, CUevent",
    "cuEventRecordWithFlags": "CUevent, CUstream, unsigned int",
    "cuGetErrorName": "CUresult, const char **",
    "cuGraphDestroy": "CUgraph",
    "cuGraphExecDestroy": "CUgraphExec",
    "cuGraphInstantiateWithFlags": "CUgraphExec *, CUgraph, unsigned long long",
    "cuGraphInstantiate_v2": "CUgraphExec *, CUgraph, CUgraphNode *, char *, size_t",
    "cuGraphLaunch": "CUgraphExec, CUstream",
    "cuStreamBeginCapture_v2": "CUstream, CUstreamCaptureMode",
    "cuStreamEndCapture": "CUstream, CUgraph *",
}
SINCE = {"cuEventRecordWithFlags": (11, 1), "cuGraphInstantiateWithFlags": (11, 4)}
"""Versions of the driver that brought a function after 11.0."""
INVALID_VALUE, INVALID_HANDLE, LAUNCH_FAILED, INVALIDATED, WRONG_THREAD = 1, 400, 719, 901, 908
NAMES = {
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    INVALID_HANDLE: b"CUDA_ERROR_INVALID_HANDLE",
    LAUNCH_FAILED: b"CUDA_ERROR_LAUNCH_FAILED",
    INVALIDATED: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    WRONG_THREAD: b"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
}
_C_TYPES: dict[str, Any] = {
    "CUresult": ctypes.c_int,
    "CUstreamCaptureMode": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "char *": ctypes.c_char_p,
}

graphs: dict[int, list[Callable[[], None]]] = {}
"""Captured work by handle, of graphs and of executable ones."""
_handles = itertools.count(0x5000_0000_0000, 0x1000)
_events: dict[int, float | None] = {}


def c_type(text: str) -> Any:
    """As cuda.h writes it; handles are pointers."""
    text = text.removeprefix("const ").strip()
    if text in _C_TYPES:
        return _C_TYPES[text]
    if text.endswith("*"):
        return ctypes.POINTER(c_type(text[:-1].strip()))
    return ctypes.c_void_p


class Function:
    """A function of the library; ``argtypes`` and ``restype`` are set by the caller."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.argtypes: tuple[Any, ...] = ()
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> int:
        expected = tuple(c_type(text.strip()) for text in PROTOTYPES[self._name].split(","))
        assert tuple(self.argtypes) == expected, f"{self._name} takes {PROTOTYPES[self._name]}"
        assert self.restype is ctypes.c_int
        assert len(arguments) == len(expected)
        for kind, given in zip(expected, arguments, strict=True):
            kind.from_param(given)  # raises TypeError, as ctypes does
        try:
            driver.require_context(self._name)
        except driver.LogicError:
            if self._name == "cuGetErrorName":
                return _cuGetErrorName(*map(_plain, arguments))
            return LAUNCH_FAILED if driver._stack() else 201  # CUDA_ERROR_INVALID_CONTEXT
        result: int = globals()[f"_{self._name}"](*map(_plain, arguments))
        return result


class Library:
    """What ``ctypes.PyDLL`` returns."""

    def __init__(self) -> None:
        version = tuple(map(int, os.environ.get("CUDA_DOUBLE_DRIVER", "12.6").split(".")))
        for name in PROTOTYPES:
            if version >= SINCE.get(name, (0, 0)):
                setattr(self, name, Function(name))


def stand_in() -> None:
    """Let ``ctypes.PyDLL`` return the double where the driver's library is asked for."""
    real = getattr(ctypes.PyDLL, "replaced", ctypes.PyDLL)

    def load(name: str | None, *arguments: Any, **options: Any) -> Any:
        return Library() if name == NAME else real(name, *arguments, **options)

    load.replaced = real  # type: ignore[attr-defined]
    ctypes.PyDLL = load  # type: ignore[misc, assignment]


def _plain(argument: Any) -> Any:
    """A number instead of a handle, and what a pointer points to."""
    if hasattr(argument, "_obj"):
        return argument._obj
    return argument.value if isinstance(argument, ctypes.c_void_p) else argument


def _cuGetErrorName(error: int, name: Any) -> int:
    name.value = NAMES.get(error)
    return 0 if error in NAMES else INVALID_VALUE


def _cuStreamBeginCapture_v2(stream: int, mode: int) -> int:
    found = driver.streams.get(stream)
    if found is None or found.is_capturing or mode not in (0, 1, 2):
        return INVALID_VALUE
    found.captured, found.is_invalid = [], False
    found.capturing_thread = threading.get_ident()
    return 0


def _cuStreamEndCapture(stream: int, graph: Any) -> int:
    found = driver.streams.get(stream)
    if found is None or found.captured is None:
        return INVALID_VALUE
    if found.capturing_thread != threading.get_ident():
        return WRONG_THREAD
    captured, found.captured, found.capturing_thread = found.captured, None, 0
    if found.is_invalid:
        graph.value = None
        return INVALIDATED
    graph.value = _kept(captured)
    return 0


def _kept(work: list[Callable[[], None]]) -> int:
    handle = next(_handles)
    graphs[handle] = work
    return handle


def _cuGraphInstantiateWithFlags(executable: Any, graph: int, flags: int) -> int:
    if graph not in graphs or flags:
        return INVALID_VALUE
    executable.value = _kept(list(graphs[graph]))
    return 0


def _cuGraphInstantiate_v2(executable: Any, graph: int, node: Any, text: Any, size: int) -> int:
    return _cuGraphInstantiateWithFlags(executable, graph, 0)


def _cuGraphLaunch(executable: int, stream: int) -> int:
    found = driver.streams.get(stream)
    if executable not in graphs or found is None:
        return INVALID_HANDLE
    for work in graphs[executable]:
        found.enqueue(work)
    return 0


def _cuGraphDestroy(graph: int) -> int:
    return INVALID_VALUE if graphs.pop(graph, None) is None else 0


def _cuGraphExecDestroy(executable: int) -> int:
    return _cuGraphDestroy(executable)


def _cuEventCreate(event: Any, flags: int) -> int:
    event.value = next(_handles)
    _events[event.value] = None
    return 0


def _cuEventDestroy_v2(event: int) -> int:
    return INVALID_HANDLE if _events.pop(event, 0) == 0 else 0


def _cuEventRecordWithFlags(event: int, stream: int, flags: int) -> int:
    found = driver.streams.get(stream)
    if event not in _events or found is None:
        return INVALID_HANDLE
    if flags == 1 and not found.is_capturing:
        return INVALID_VALUE  # CU_EVENT_RECORD_EXTERNAL is for a capture

    def happen() -> None:
        _events[event] = time.perf_counter()

    if flags == 1 or not found.is_capturing:
        found.enqueue(happen)
    return 0


def _cuEventElapsedTime(milliseconds: Any, start: int, end: int) -> int:
    times = _events.get(start), _events.get(end)
    if times[0] is None or times[1] is None:
        return INVALID_HANDLE
    milliseconds.value = 1e3 * (times[1] - times[0])
    return 0

# SPDX-License-Identifier: Apache-2.0
"""The first CUDA device through pycuda: its primary context, and buffers on both sides.

It has run on a GPU with memory of its own (docs/gpu.md). Memory that CPU and GPU share is tested
against a double of pycuda that enforces its documented rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.libraries import Library, imported

PYCUDA = Library(
    "pycuda",
    "pycuda.driver",
    "pycuda",
    "NVIDIA GPUs",
    install="pip install pycuda (it needs the CUDA toolkit and g++)",
    install_on_jetson="PATH=$PATH:/usr/local/cuda/bin pip install pycuda",
)


class Gpu:
    """The first CUDA device with its primary context.

    The context belongs to the process, as CUDA's own libraries expect. A thread has it only inside
    ``current()``: whatever allocates, runs or frees does so there, in whichever thread it is.

    Attributes:
        name: for example ``Orin``.
        compute_capability: for example ``8.7``.
        bus_id: its place on the PCI bus, for example ``0000:3B:00.0``; empty if it has none.
        cuda: version that pycuda was built with.
        driver: pycuda's module of that name.
        maps_memory: whether GPU and CPU share their memory, as on a Jetson: copies can be saved.
    """

    def __init__(self) -> None:
        driver = imported(PYCUDA)
        # Before CUDA 12.2, all kernels of a library are loaded, hundreds of megabytes of TensorRT's
        # on both sides, unless this is set before the driver is initialised (CUDA C++ Programming
        # Guide, "Lazy Loading"). Drivers that do not know it ignore it.
        os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
        try:
            driver.init()
            device = driver.Device(0)
            self._context = device.retain_primary_context()
        except driver.Error as error:
            raise BackendError(
                f"CUDA finds no GPU that it can use ({error})",
                "check the driver, and that /dev shows the GPU in this container",
            ) from None
        self.driver = driver
        self.name: str = device.name()
        self.compute_capability = ".".join(map(str, device.compute_capability()))
        self.bus_id = ""
        with suppress(driver.Error):  # only meters ask for it
            self.bus_id = device.pci_bus_id()
        self.cuda = ".".join(map(str, driver.get_version()))
        kinds = driver.device_attribute
        self.maps_memory = all(
            map(device.get_attribute, (kinds.INTEGRATED, kinds.CAN_MAP_HOST_MEMORY))
        )

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread."""
        self._context.push()
        try:
            yield
        finally:
            self.driver.Context.pop()

    def memory_in_use(self) -> int:
        """Bytes of the device's memory that all programs use."""
        with self.current():
            free, total = self.driver.mem_get_info()
        return int(total - free)


@lru_cache(maxsize=1)
def gpu() -> Gpu:
    """The device, opened once in the process; raises BackendError."""
    return Gpu()


def opened_gpu() -> Gpu | None:
    """The device if this process has opened it; nothing is opened now."""
    return gpu() if gpu.cache_info().currsize else None


class Buffer:
    """Memory of one tensor that both sides reach.

    ``host`` is page-locked, so that copies run beside other work. Where the GPU shares the
    machine's memory it is mapped instead: the GPU reads and writes it, and nothing is copied.
    """

    def __init__(self, device: Gpu, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Allocate both sides; the context must be current."""
        driver = device.driver
        flags = driver.host_alloc_flags.DEVICEMAP if device.maps_memory else 0
        self.host: np.ndarray = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        self.host[...] = 0
        self._driver = driver
        self._device = None if device.maps_memory else driver.mem_alloc(self.host.nbytes)

    @property
    def address(self) -> int:
        """On the device."""
        if self._device is None:
            return int(self.host.base.get_device_pointer())  # type: ignore[union-attr]
        return int(self._device)

    def upload(self, rows: int, stream: Any) -> None:
        """Queue the copy of the first ``rows`` to the device."""
        if self._device is not None:
            self._driver.memcpy_htod_async(self._device, self.host[:rows], stream)

    def download(self, rows: int, stream: Any) -> None:
        """Queue the copy of the first ``rows`` from the device."""
        if self._device is not None:
            self._driver.memcpy_dtoh_async(self.host[:rows], self._device, stream)

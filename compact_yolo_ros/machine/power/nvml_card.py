# SPDX-License-Identifier: Apache-2.0
"""Which of several graphics cards is the one that runs the network, for NVML.

NVML counts the cards by their place on the bus, whatever CUDA sees. CUDA counts those of
``CUDA_VISIBLE_DEVICES`` only, in that order (CUDA C++ Programming Guide, "CUDA Environment
Variables"), and the fastest first, unless ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``. The place on the
bus of the card that pycuda has opened is known; before that, the variable is all there is.
"""

from __future__ import annotations

import os
import re
from typing import Any

from compact_yolo_ros.backends.tensorrt.cuda import opened_gpu
from compact_yolo_ros.machine.power.source import Unavailable

VISIBLE = "CUDA_VISIBLE_DEVICES"
INSTANCE = "MIG-"
"""How a part of a card is called; drivers before 470 put the name of the card behind that."""


def card_of_cuda(nvml: Any) -> Any:
    """Return NVML's handle of CUDA's first device.

    Args:
        nvml: the module ``pynvml``, initialised.

    Raises:
        Unavailable: the environment names no card that is here.
        NVMLError: NVML fails.
    """
    gpu = opened_gpu()
    if gpu is not None and gpu.bus_id:
        return nvml.nvmlDeviceGetHandleByPciBusId(gpu.bus_id)
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return nvml.nvmlDeviceGetHandleByIndex(0)
    first = visible.partition(",")[0].strip()
    try:
        found = _named(nvml, first)
    except nvml.NVMLError as error:
        raise Unavailable(f"{VISIBLE} is '{visible}': there is no card for it ({error})") from None
    if found is None:
        raise Unavailable(f"{VISIBLE} is '{visible}': that names no card of this machine")
    return found


def _named(nvml: Any, name: str) -> Any:
    """The handle of the card that a part of the variable names; None if it names none."""
    if name.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    old = re.fullmatch(rf"{INSTANCE}(GPU-[^/]+)/\d+/\d+", name)
    if name.startswith(INSTANCE) and not old:  # its watts are those of the card
        instance = nvml.nvmlDeviceGetHandleByUUID(name)
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
    uuid = old[1] if old else name
    cards = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    found = [card for card in cards if _text(nvml.nvmlDeviceGetUUID(card)).startswith(uuid)]
    return found[0] if name.startswith((INSTANCE, "GPU-")) and len(found) == 1 else None


def _text(name: str | bytes) -> str:
    """A text of NVML; older versions of its package return bytes."""
    return name.decode() if isinstance(name, bytes) else name

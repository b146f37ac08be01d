# SPDX-License-Identifier: Apache-2.0
"""Power of an NVIDIA graphics card through NVML (package nvidia-ml-py, imported on opening).

NVML API reference: nvmlDeviceGetPowerUsage (mW), nvmlDeviceGetClockInfo (MHz),
nvmlDeviceGetTemperature (degrees Celsius), nvmlClocksThrottleReasons. Not run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.machine.power.nvml_card import card_of_cuda
from compact_yolo_ros.machine.power.source import (
    DEGREES,
    MAX_MHZ,
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)

NVIDIA_ML = Library("nvidia-ml-py", "pynvml", "nvidia-ml-py", "the power of a graphics card")
SM_CLOCK = 1
GPU_SENSOR = 0
THROTTLE_REASONS = {
    0x04: "GPU power cap",
    0x08: "GPU hardware slowdown",
    0x20: "GPU thermal slowdown (driver)",
    0x40: "GPU thermal slowdown (hardware)",
    0x80: "GPU power brake",
}


class Nvml:
    """Watts, clock, temperature and throttling of the card that runs the network."""

    name = "NVML (graphics card)"

    def __init__(self) -> None:
        """Open the card that is the first one for CUDA.

        Raises:
            Unavailable: nvidia-ml-py, the driver or a card is missing.
        """
        try:
            import pynvml
        except ImportError:
            raise Unavailable(NVIDIA_ML.install_line) from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._card = card_of_cuda(pynvml)
        except pynvml.NVMLError as error:
            raise Unavailable(str(error)) from None

    def read(self) -> PowerReading:
        problems: list[str] = []

        def ask(what: Callable[..., Any], *arguments: int) -> Any:
            try:
                return what(self._card, *arguments)
            except self._nvml.NVMLError as error:
                problems.append(f"{what.__name__}: {error}")
                return None

        nvml = self._nvml
        state = ask(nvml.nvmlDeviceGetPerformanceState)
        milliwatts = ask(nvml.nvmlDeviceGetPowerUsage)
        clock = ask(nvml.nvmlDeviceGetClockInfo, SM_CLOCK)
        temperature = ask(nvml.nvmlDeviceGetTemperature, GPU_SENSOR)
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        power = PowerReading() if milliwatts is None else metered("NVML", milliwatts * 1e-3)
        return replace(
            power,
            mode=None if state is None else f"GPU P{state}",
            clocks=_sensible(clock, 0, MAX_MHZ),
            temperatures=_sensible(temperature, *DEGREES),
            throttled=None
            if reasons is None
            else tuple(text for bit, text in THROTTLE_REASONS.items() if reasons & bit),
            problems=(*power.problems, *problems),
        )

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def _sensible(value: float | None, low: float, high: float) -> dict[str, float]:
    """The GPU's value, unless a GPU cannot have it."""
    return {"gpu": float(value)} if value is not None and low <= value <= high else {}


INFO = PowerSourceInfo(
    name="NVML",
    part=Part.GRAPHICS_CARD,
    open=lambda root: Nvml(),
    reads="NVML, through the package `nvidia-ml-py`",
    library=NVIDIA_ML,
)

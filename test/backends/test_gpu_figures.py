# SPDX-License-Identifier: Apache-2.0
"""The figures that the tests on a GPU report: from a card and a network that are made up."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import gpu_meter
import pytest
from gpu_meter import Meter, measure, targets


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Network:
    """Answers eight images in 2 ms, of which the GPU's events tell 1.9 ms."""

    def __init__(self, clock: Clock) -> None:
        self.device_times = {"copy_in": 0.0002, "compute": 0.0015, "copy_out": 0.0002}
        self._clock = clock

    def run(self, images: int) -> None:
        self._clock.now += 0.002


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(gpu_meter, "perf_counter", made)
    return made


def card(clock: Clock, **more: Any) -> SimpleNamespace:
    """NVML of a card that takes 300 W of at most 700."""
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: "card",
        nvmlDeviceGetTotalEnergyConsumption=lambda card: round(300e3 * clock.now),
        nvmlDeviceGetEnforcedPowerLimit=lambda card: 700_000,
        nvmlDeviceGetClockInfo=lambda card, which: {1: 1980, 2: 2619}[which],
        nvmlDeviceGetMaxClockInfo=lambda card, which: {1: 1980, 2: 2619}[which],
        **more,
    )


def test_speed_and_energy_of_a_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", card(clock))
    found = measure(Network(clock), 8, Meter(), seconds=0.5)  # type: ignore[arg-type]
    assert found["images/s"] == pytest.approx(4000)
    assert found["call us"] == pytest.approx(2000)
    assert found["compute us"] == pytest.approx(1500)
    assert found["W"] == pytest.approx(300)
    assert found["images/s/W"] == pytest.approx(4000 / 300)
    assert found["SM MHz"] == 1980


def test_the_report_has_the_power_limit_and_the_clocks(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", card(clock))
    assert Meter().facts() == {
        "GPU power limit": "700 W",
        "GPU clocks": "SM 1980 of 1980 MHz, memory 2619 of 2619 MHz",
    }


def test_without_nvml_the_speed_is_known_and_the_power_is_not(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = measure(Network(clock), 1, Meter(), seconds=0)  # type: ignore[arg-type]
    assert found["images/s"] == pytest.approx(500)
    assert found["W"] is found["images/s/W"] is found["SM MHz"] is None


def row(model: str, precision: str, batch: int, rate: float, call: float) -> dict[str, Any]:
    return {
        "model": model,
        "precision": precision,
        "batch": batch,
        "GMAC": {"yolov4_tiny": 3.45}.get(model, 0.1),
        "images/s": rate,
        "call us": call,
        "copy_in us": 20.0,
        "compute us": 200.0,
        "copy_out us": 10.0,
    }


def test_the_targets() -> None:
    found = targets(
        [
            row("yolov4_tiny", "fp16", 1, 3000, 290.0),  # 230 + 30 + 30 are allowed
            row("small", "fp16", 1, 3000, 290.1),
            row("yolov4_tiny", "fp16", 4, 1774.0, 0.0),
            row("yolov4_tiny", "fp16", 8, 3000.0, 0.0),
            row("yolov4_tiny", "fp32", 8, 2000.0, 0.0),
            row("small", "fp16", 8, 2000.0, 0.0),  # less than 1 GMAC: no target
            row("small", "fp32", 8, 2000.0, 0.0),
        ]
    )
    assert [(line["target"], line["met"]) for line in found] == [
        ("yolov4_tiny in fp16: us of a call", "yes"),
        ("small in fp16: us of a call", "no"),
        ("yolov4_tiny: FP16 by FP32 at 8 images", "yes"),
        ("yolov4_tiny in FP16, 4 images: images/s", "no"),
    ]

# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's core on another processor than this machine's: the real core, which says so."""

from __future__ import annotations

from typing import Any

import openvino

from compact_yolo_ros.backends.openvino import _core


class Processor:
    """OpenVINO's core on a processor with these abilities, which does what it is told or not."""

    def __init__(self, *abilities: str, computes: str = "") -> None:
        self._core = _core()  # a second core would leave a trap for the next signal
        self._abilities = ["FP32", "INT8", *abilities]
        self._computes = computes
        self.given: list[dict[str, Any]] = []

    def read_model(self, path: str) -> Any:
        return self._core.read_model(path)

    def get_property(self, device: str, name: str) -> Any:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._abilities

    def compile_model(self, network: Any, device: str, properties: dict[str, Any]) -> Any:
        self.given.append(properties)
        hint = self._computes or properties["INFERENCE_PRECISION_HINT"]
        return Compiled(self._core.compile_model(network, device, properties), hint)


class Compiled:
    """A compiled network that says what it computes in."""

    def __init__(self, compiled: Any, computes: str) -> None:
        self._compiled, self._computes = compiled, computes

    def create_infer_request(self) -> Any:
        return self._compiled.create_infer_request()

    def get_property(self, name: str) -> Any:
        assert name == "INFERENCE_PRECISION_HINT"
        return getattr(openvino.Type, self._computes)

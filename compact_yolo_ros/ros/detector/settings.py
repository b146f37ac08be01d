# SPDX-License-Identifier: Apache-2.0
"""What the detector node's parameters ask for, of a network and of what becomes of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.model.sizes import Size, check_side
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.ros.detector.camera_names import check_camera_names
from compact_yolo_ros.ros.detector.parameters import DETECTOR_PARAMETERS
from compact_yolo_ros.ros.parameters import declare

Changes = Mapping[str, Any]
"""Values by name that are about to replace those of the node."""
NONE: Changes = {}


class DetectorSettings:
    """Reads and checks the parameters of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._specs = {spec.name: spec for spec in DETECTOR_PARAMETERS}

    def declare(self) -> None:
        """Declare the parameters on the node."""
        declare(self._node, DETECTOR_PARAMETERS)

    def value(self, name: str, changes: Changes = NONE) -> Any:
        """A parameter's value."""
        given = changes[name] if name in changes else self._node.get_parameter(name).value
        return self._specs[name].read(given)

    def check(self, changes: Changes, *, loaded: bool) -> None:
        """Raise ValueError, with the reason, for a value that cannot be taken.

        Args:
            changes: values of parameters, others than the detector's are ignored.
            loaded: whether a model is.
        """
        for name, value in changes.items():
            if name in self._specs:
                self._check(name, value, loaded)

    def _check(self, name: str, value: Any, loaded: bool) -> None:
        spec = self._specs[name]
        if refusal := spec.refusal(value):
            raise ValueError(refusal)
        if name == "input_size" and value:
            check_side(value)
        if name == "governor_sizes":
            for side in value:
                check_side(side)
        if name == "cameras":
            check_camera_names(value)
        if loaded and spec.changes == "unconfigured":
            raise ValueError(
                f"{name} cannot change while a model is loaded: "
                "deactivate and clean up the node first"
            )

    def selection(self, detector: Detector, changes: Changes = NONE) -> Selection:
        """Which objects to publish.

        Raises:
            ValueError: the model has no class of a name.
        """
        return Selection(
            score_threshold=self.value("score_threshold", changes),
            iou_threshold=self.value("iou_threshold", changes),
            max_detections=self.value("max_detections", changes),
            labels=detector.labels_of([name for name in self.value("classes", changes) if name]),
        )

    def targets(self, changes: Changes = NONE) -> Targets:
        """What the governor is to hold."""
        names = ("target_fps", "max_latency", "power_budget_w", "governor_skip")
        return Targets(*(self.value(name, changes) for name in names))

    def smaller_sizes(self) -> list[Size]:
        """What a target may lead to, beside the size that is asked for; raises ModelError."""
        largest = self._side()
        sides = sorted({side for side in self.value("governor_sizes") if side < largest})
        return [Size.square(side) for side in sides]

    def run_options(self) -> RunOptions:
        """How to run the network; raises ModelError, ValueError."""
        # The smaller sizes are open only when there is a target: they take memory, and engines
        # to be built.
        smaller = self.smaller_sizes() if self.targets() else []
        return RunOptions(
            self.value("model"),
            backend=self.value("backend"),
            precision=self.value("precision"),
            input_sizes=(Size.square(self._side()), *smaller),
            threads=self.value("cpu_threads"),
            dla_core=self.value("dla_core"),
            engine_cache=self.value("engine_cache"),
        )

    def _side(self) -> int:
        """Of the input that is asked for."""
        return self.value("input_size") or find_model(self.value("model")).card.default_size

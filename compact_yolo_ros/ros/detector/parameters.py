# SPDX-License-Identifier: Apache-2.0
"""What the values of the detector node's parameters mean, ``RunOptions`` among others.

Everything that turns parameters into ``RunOptions`` or back is here: the node, the launch files and
the tools that start a node use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.position_options import (
    PositionOptions,
    class_heights,
    label_heights,
)
from compact_yolo_ros.detection.selection import ANY_SIZE, class_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import View, parse_tiles
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import (
    InputSize,
    OwnSize,
    Size,
    check_side,
    fitted,
    long_side,
    parse_input_size,
)
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.ros.detector.camera_names import camera_names, check_camera_names
from compact_yolo_ros.ros.detector.parameter_table import OWN_SIZES, SPECS, SQUARE
from compact_yolo_ros.ros.detector.views import roi_areas
from compact_yolo_ros.ros.optional_messages import IMAGE_ANNOTATIONS, message_class
from compact_yolo_ros.ros.parameters import OFF
from compact_yolo_ros.support.error_text import shortened

RUN_PARAMETERS = ("model", "backend", "precision", "input_size")
"""What a running node changes by opening another network beside the one in use."""

OPTION_OF = {
    "model": "model",
    "backend": "backend",
    "precision": "precision",
    "cpu_threads": "threads",
    "backend_timing": "timing",
    "dla_core": "dla_core",
    "max_batch": "batch",
    "engine_cache": "engine_cache",
}
"""The field of ``RunOptions`` that a parameter sets; ``input_sizes`` needs more than one."""


def check_value(name: str, value: Any) -> None:
    """Check a value of the parameter ``name``.

    Raises:
        ValueError: it cannot be used; the sentence says why.
    """
    SPECS[name].check(value)
    value = SPECS[name].read(value)
    if name == "input_size" and str(value) not in OWN_SIZES:
        _read_input_size(value)
    if name == "governor_sizes":
        for side in value:
            check_side(side)
    if name == "cameras":
        check_camera_names(value)
    if name == "rotation":
        [View(rotation=degrees) for degrees in value]
    if name == "roi":
        [View(roi=area) for area in roi_areas(value)]
    if name == "tiles":
        [parse_tiles(text) for text in value]
    if name == "class_thresholds":
        class_thresholds(value)
    if name == "class_heights":
        class_heights(value)
    if name in ("min_box_size", "max_box_size"):
        box_size(value, name)


def box_size(value: Sequence[int], name: str = "size of boxes") -> tuple[int, int]:
    """Width and height that a value of the parameter ``name`` means; an empty one is no limit.

    Raises:
        ValueError: these are not two numbers from 0 on.
    """
    sides = tuple(value) or ANY_SIZE
    if len(sides) != 2 or min(sides) < 0:
        raise ValueError(f"{name} {list(sides)[:4]} is not width and height: give two numbers >= 0")
    return sides[0], sides[1]


def _read_input_size(value: Any) -> InputSize:
    """Read what ``input_size`` is, if it is not left to the model; raises ValueError."""
    text = str(value)
    if type(value) not in (int, str) or len(text) > len("1280x1280"):
        raise ValueError(f"input_size {shortened(text)} is not of the form 320 or 320x192")
    return parse_input_size(text)


def check_changes(changes: Mapping[str, Any], *, loaded: bool) -> None:
    """Check values that the parameters are about to get.

    Args:
        changes: values by name; parameters that are not the detector's are ignored.
        loaded: whether a model is loaded, so that some parameters cannot change.

    Raises:
        ValueError: a value cannot be used; the sentence says why.
    """
    for name in changes.keys() & SPECS.keys():
        check_value(name, changes[name])
        if loaded and name == "annotations" and changes[name]:
            message_class(IMAGE_ANNOTATIONS)
        if loaded and SPECS[name].changes == "unconfigured":
            raise ValueError(
                f"{name} cannot change while a model is loaded: "
                "deactivate and clean up the node first"
            )


def targets(values: Mapping[str, Any]) -> Targets:
    """What the governor is to hold, from the values of all parameters."""
    return Targets(
        fps=values["target_fps"],
        latency=values["max_latency"],
        watts=values["power_budget_w"],
        max_skip=values["governor_skip"],
    )


def tracking(values: Mapping[str, Any]) -> TrackingOptions | None:
    """How objects are tracked, from the values of all parameters; None if they are not."""
    if values["tracking"] == OFF:
        return None
    return TrackingOptions(
        high_score=values["score_threshold"],
        low_score=values["track_low_score"],
        buffer=values["track_buffer"],
        by_class=values["track_by_class"],
        most=values["max_detections"],
    )


def positions(values: Mapping[str, Any], card: ModelCard) -> PositionOptions | None:
    """How objects are found in space, from the values of all parameters; None if they are not.

    Raises:
        ValueError: the model has no class of a name.
    """
    heights = label_heights(class_heights(values["class_heights"]), card)
    if values["positions"] == OFF:
        return None
    return PositionOptions(
        uses_depth=values["positions"] == "depth",
        tolerance=values["depth_tolerance"],
        heights=heights,
        rectified=values["rectified"],
    )


def file_limits(values: Mapping[str, Any]) -> FileLimits:
    """What a compressed image may demand, from the values of all parameters."""
    return FileLimits(
        megabytes=values["max_image_mb"],
        scans=values["max_jpeg_scans"],
        frames=values["max_png_frames"],
    )


def _largest_input(value: Any, card: ModelCard) -> InputSize:
    """The input size that a value of ``input_size`` means for a model."""
    if str(value) == SQUARE:
        return card.own_size if card.has_one_size else Size.square(max(card.own_size))
    return card.own_input if str(value) in OWN_SIZES else _read_input_size(value)


def run_options(values: Mapping[str, Any]) -> RunOptions:
    """The model and how to run it, from the values of all parameters.

    Raises:
        ModelError: the model cannot be found, read or trusted.
        ValueError: a value is out of its range.
    """
    options = RunOptions(
        **{field: values[name] for name, field in OPTION_OF.items()},
        input_sizes=input_sizes(values, find_model(values["model"]).card),
    )
    return options.change(batch=min(options.batch, len(camera_names(values["cameras"]))))


def input_sizes(values: Mapping[str, Any], card: ModelCard) -> tuple[InputSize, ...]:
    """The input size to begin with and, if there is a target, the smaller ones.

    Without a target they are not opened: they take memory, and engines that must be built. A model
    of a fixed size has none.
    """
    return with_smaller(_largest_input(values["input_size"], card), card, values)


def with_smaller(
    first: InputSize, card: ModelCard, values: Mapping[str, Any]
) -> tuple[InputSize, ...]:
    """See ``input_sizes``, where it is known which size to begin with."""
    sides = {other for other in values["governor_sizes"] if other < long_side(first)}
    if card.fixed_size or not targets(values):
        return (first,)
    if isinstance(first, int):
        return (first, *sorted(sides))
    return (first, *(fitted(side, first) for side in sorted(sides)))


def to_parameters(options: RunOptions) -> dict[str, Any]:
    """Values of the parameters that make a node run ``options``, at its first size."""
    values = {name: getattr(options, field) for name, field in OPTION_OF.items()}
    if not options.input_sizes or isinstance(options.input_sizes[0], OwnSize):
        return {**values, "input_size": AUTO}
    size = options.input_sizes[0]
    return {**values, "input_size": size if isinstance(size, int) else str(size)}

# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameters, and what they mean: how to run the network, and ``RunOptions``.

Everything that turns parameters into ``RunOptions`` or back is here: the node, the launch files and
the tools that start a node use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compact_yolo_ros.backends import PRECISIONS, RunOptions, backend_names
from compact_yolo_ros.backends.options import MOST_THREADS
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.position_options import (
    PositionOptions,
    class_heights,
    label_heights,
)
from compact_yolo_ros.detection.selection import ANY_SIZE, Selection, class_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import MOST_OVERLAP, PLAIN, View, parse_tiles
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
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS, FileLimits
from compact_yolo_ros.pixels.mono16_bits import STRETCH
from compact_yolo_ros.ros.detector.camera_names import camera_names, check_camera_names
from compact_yolo_ros.ros.detector.views import roi_areas
from compact_yolo_ros.ros.optional_messages import IMAGE_ANNOTATIONS, message_class
from compact_yolo_ros.ros.parameters import OFF, ParameterSpec
from compact_yolo_ros.ros.transports import DEPTH_TRANSPORTS, IMAGE_TRANSPORTS
from compact_yolo_ros.support.error_text import shortened

SQUARE = "square"
OWN_SIZES = (AUTO, "0", SQUARE)
"""Values of ``input_size`` that leave the number to the model."""

_OPTIONS = RunOptions()
_SELECTION = Selection()
_TRACKING = TrackingOptions()
_POSITIONS = PositionOptions()

DETECTOR_PARAMETERS = (
    ParameterSpec(
        "model",
        _OPTIONS.model,
        "Name of a model that comes with the package, or path of an .onnx file with a model card.",
    ),
    ParameterSpec(
        "backend",
        _OPTIONS.backend,
        "What runs the network; auto takes TensorRT if it works here, else what is fastest on "
        "the CPU (backend_timing).",
        choices=backend_names(),
    ),
    ParameterSpec(
        "precision",
        _OPTIONS.precision,
        "Number format of the network; auto keeps that of the model file. TensorRT runs an "
        "fp32 file in fp16 too, OpenVINO in bf16 or fp16 where the processor has it; /diagnostics "
        "shows what is really computed in.",
        choices=PRECISIONS,
    ),
    ParameterSpec(
        "input_size",
        AUTO,
        "Long side of the network input in pixels, 160 to 1280 in steps of 32; the short side fits "
        "the camera's images. Both sides as 320x192; square is the model's own square. auto, or 0, "
        "is the model's own long side.",
        untyped=True,  # a whole number is one to YAML
    ),
    ParameterSpec(
        "cpu_threads",
        _OPTIONS.threads,
        "CPU threads of the network; 0 is what backend_timing finds, else one for each core of the "
        "process, at most four.",
        low=0,
        high=MOST_THREADS,
        changes="unconfigured",
    ),
    ParameterSpec(
        "backend_timing",
        _OPTIONS.timing,
        "Time the runtimes on the CPU once, beside the first images, and take the fastest: where "
        "backend and precision are auto, cpu_threads is 0 and no GPU is used (docs/runtimes.md).",
        changes="unconfigured",
    ),
    ParameterSpec(
        "dla_core",
        _OPTIONS.dla_core,
        "Core of a Jetson's deep learning accelerator that TensorRT uses; -1 is the GPU. Not run "
        "on a DLA yet.",
        low=-1,
        high=3,
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_batch",
        _OPTIONS.batch,
        "Most images of several cameras that go through the network together, where they wait at "
        "the same time; on a GPU only. Its engines are built for that many.",
        low=1,
        high=16,
        changes="unconfigured",
    ),
    ParameterSpec(
        "engine_cache",
        _OPTIONS.engine_cache,
        "Folder of TensorRT engines; empty is ~/.cache/compact_yolo_ros/engines.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "score_threshold",
        _SELECTION.score_threshold,
        "Objects with a lower score are not published.",
        low=0,
        high=1,
    ),
    ParameterSpec(
        "iou_threshold",
        _SELECTION.iou_threshold,
        "Of two boxes of one class that overlap by more, only the better one is published.",
        low=0,
        high=1,
    ),
    ParameterSpec(
        "box_voting",
        _SELECTION.box_voting,
        "The boxes that iou_threshold leaves out move the one that is published to their mean, "
        "which fits better (docs/accuracy.md).",
    ),
    ParameterSpec(
        "max_detections",
        _SELECTION.max_detections,
        "At most this many objects per image are published.",
        low=1,
        high=300,
    ),
    ParameterSpec("classes", [""], "Class names to publish; empty publishes all."),
    ParameterSpec(
        "class_thresholds",
        [""],
        "Score thresholds of single classes instead of score_threshold, as person:0.6.",
    ),
    ParameterSpec(
        "min_box_size",
        list(ANY_SIZE),
        "Width and height in pixels of the image; objects with a smaller box are not published.",
    ),
    ParameterSpec(
        "max_box_size",
        list(ANY_SIZE),
        "Width and height in pixels of the image; objects with a larger box are not published. 0 "
        "is no limit.",
    ),
    ParameterSpec(
        "class_id_format",
        "name",
        "What class_id holds: the name of the class, or its number in ~/label_info.",
        choices=("name", "id"),
    ),
    ParameterSpec(
        "tracking",
        "off",
        "bytetrack follows objects over the images of a camera: ids in ~/detections, and ~/tracks.",
        choices=("off", "bytetrack"),
    ),
    ParameterSpec(
        "track_buffer",
        _TRACKING.buffer,
        "Seconds for which an object that is not seen keeps its track.",
        low=0,
        high=60,
    ),
    ParameterSpec(
        "track_low_score",
        _TRACKING.low_score,
        "Objects from this score on continue a track, but only those from score_threshold on begin "
        "one.",
        low=0,
        high=1,
    ),
    ParameterSpec(
        "track_by_class",
        _TRACKING.by_class,
        "A track keeps its class; false lets it go on when the object is taken for another class.",
    ),
    ParameterSpec(
        "positions",
        OFF,
        "Where objects are in space, on ~/detections_3d: depth takes it from depth images; bearing "
        "needs only the calibration, and gives directions, and ranges of classes of known height.",
        choices=(OFF, "depth", "bearing"),
    ),
    ParameterSpec(
        "depth_tolerance",
        _POSITIONS.tolerance,
        "Most seconds between the stamps of an image and of its depth image; the nearest is taken.",
        low=0,
        high=10,
    ),
    ParameterSpec(
        "depth_transport",
        "raw",
        "raw subscribes to depth, compressedDepth to depth/compressedDepth (PNG or RVL).",
        choices=tuple(DEPTH_TRANSPORTS),
        changes="unconfigured",
    ),
    ParameterSpec(
        "class_heights",
        [""],
        "Heights of classes in metres, as person:1.7, for ranges where no depth is known.",
    ),
    ParameterSpec(
        "rectified",
        _POSITIONS.rectified,
        "The images have no lens distortion any more (image_rect), so that P of the calibration is "
        "theirs.",
    ),
    ParameterSpec(
        "cameras",
        [""],
        "Names of several cameras for one network: each has <name>/image and ~/<name>/detections. "
        "Empty is a single camera on image.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "rotation",
        [PLAIN.rotation],
        "Degrees clockwise (0, 90, 180, 270) by which images are turned for the network, so that "
        "it sees them upright; boxes stay in the published image's own pixels. One for all "
        "cameras, or one for each, as the next two.",
        untyped=True,
    ),
    ParameterSpec(
        "roi",
        list(PLAIN.roi),
        "Part of the image that the network sees, in all its pixels: x, y, width, height in pixels "
        "of the published image; zeros are all of it.",
    ),
    ParameterSpec(
        "tiles",
        ["1x1"],
        "Columns and rows of tiles (3x2) that the network sees one by one, for small objects, "
        "besides the whole: 3x2 takes seven times as long as 1x1.",
        untyped=True,
    ),
    ParameterSpec(
        "tile_overlap",
        PLAIN.overlap,
        "Share of a tile's width and height that it has in common with the next one.",
        low=0,
        high=MOST_OVERLAP,
    ),
    ParameterSpec(
        "image_transport",
        "raw",
        "raw subscribes to the image topic, compressed to <image topic>/compressed (JPEG or PNG), "
        "ffmpeg and foxglove to the video below it (H.264 or H.265, docs/stack.md).",
        choices=tuple(IMAGE_TRANSPORTS),
        changes="unconfigured",
    ),
    ParameterSpec(
        "image_decoder",
        "builtin",
        "builtin needs nothing else; cv_bridge uses that package for raw images.",
        choices=("builtin", "cv_bridge"),
        changes="unconfigured",
    ),
    ParameterSpec(
        "mono16_bits",
        STRETCH,
        f"Bits that a mono16 camera uses, for example 10, 12 or 14; {STRETCH} stretches the "
        "contrast of each image, as thermal cameras need. For image_decoder builtin.",
        low=STRETCH,
        high=16,
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_image_mb",
        USUAL_LIMITS.megabytes,
        "Compressed images that take more memory when decoded are refused, in MB (2**20 bytes); a "
        "video takes about ten times its pictures.",
        low=1,
        high=4096,
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_jpeg_scans",
        USUAL_LIMITS.scans,
        "JPEG images with more scans are refused; a progressive one has about ten.",
        low=1,
        high=10000,
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_png_frames",
        USUAL_LIMITS.frames,
        "Animated PNG images with more frames are refused; of others the first frame is used.",
        low=1,
        high=10000,
        changes="unconfigured",
    ),
    ParameterSpec(
        "reliability",
        "auto",
        "Reliability of the image subscription; auto is that of the camera's publisher, and asks "
        "for the last image where that is latched (transient_local).",
        choices=("auto", "reliable", "best_effort"),
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_age",
        0.0,
        "Images older than this many seconds, or stamped as far in the future, are not processed; "
        "0 is no limit.",
        low=0,
        high=3600,
    ),
    ParameterSpec(
        "detect_once_timeout",
        2.0,
        "Seconds that ~/detect_once waits for an image, and for which an image that was answered "
        "before the call is new enough for it.",
        low=0.1,
        high=60,
    ),
    ParameterSpec("debug_image", True, "Draw ~/debug_image while somebody subscribes to it."),
    ParameterSpec(
        "debug_image_rate",
        10.0,
        "Most images per second on ~/debug_image, and on ~/debug_image/compressed; 0 is every "
        "processed image.",
        low=0,
        high=1000,
    ),
    ParameterSpec(
        "debug_image_size",
        640,
        "Most pixels of the longer side of the debug image; 0 keeps the size of the camera's "
        "image.",
        low=0,
        high=8192,
    ),
    ParameterSpec(
        "annotations",
        False,
        "Publish ~/annotations for Foxglove while somebody subscribes; needs foxglove_msgs "
        "(sudo apt install ros-$ROS_DISTRO-foxglove-msgs).",
    ),
    ParameterSpec(
        "target_fps",
        0.0,
        "Images per second that must be possible, over all cameras; 0 is no target. To meet a "
        "target the governor makes the network input smaller if necessary.",
        low=0,
        high=1000,
    ),
    ParameterSpec(
        "max_latency",
        0.0,
        "Longest time in seconds from receiving an image to publishing its detections; 0 is no "
        "target.",
        low=0,
        high=60,
    ),
    ParameterSpec(
        "power_budget_w",
        0.0,
        "Highest mean power in watts, where power can be read; 0 is no target.",
        low=0,
        high=10000,
    ),
    ParameterSpec(
        "governor_sizes",
        [224, 320, 416],
        "Long sides of the network input, in pixels, that the governor may choose besides "
        "input_size; larger ones are ignored.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "governor_skip",
        0,
        "Most images that the governor skips after each processed one, when the smallest size is "
        "not enough for max_latency or power_budget_w.",
        low=0,
        high=10,
    ),
    ParameterSpec(
        "power",
        "auto",
        "auto reads watts, clocks, temperatures and throttling for /diagnostics while the node is "
        "active.",
        choices=("auto", "none"),  # YAML reads off as false
        changes="unconfigured",
    ),
    ParameterSpec(
        "diagnostics_period",
        1.0,
        "Seconds between two messages on /diagnostics.",
        low=0.1,
        high=60,
        changes="never",
    ),
    ParameterSpec(
        "autostart",
        False,
        "Configure and activate at start, without waiting for a lifecycle manager.",
        changes="never",
    ),
)

SPECS = {spec.name: spec for spec in DETECTOR_PARAMETERS}

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
        return (
            card.own_size if card.any_size or card.fixed_size else Size.square(max(card.own_size))
        )
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

# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameters: their names, defaults, ranges and descriptions.

What the values mean is in ``parameters.py``.
"""

from __future__ import annotations

from compact_yolo_ros.backends import PRECISIONS, RunOptions, backend_names
from compact_yolo_ros.backends.options import MOST_THREADS
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.detection.position_options import PositionOptions
from compact_yolo_ros.detection.selection import ANY_SIZE, Selection
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import MOST_OVERLAP, PLAIN
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS
from compact_yolo_ros.pixels.mono16_bits import STRETCH
from compact_yolo_ros.ros.parameters import OFF, ParameterSpec
from compact_yolo_ros.ros.transports import DEPTH_TRANSPORTS, IMAGE_TRANSPORTS

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

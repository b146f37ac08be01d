# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameters."""

from __future__ import annotations

from compact_yolo_ros.backends import PRECISIONS, backend_names
from compact_yolo_ros.model.sizes import MAX_SIDE, STRIDE
from compact_yolo_ros.ros.parameters import ParameterSpec

DETECTOR_PARAMETERS = (
    ParameterSpec(
        "model",
        "yolo_ret_m075",
        "Name of a model that comes with the package, or path of an .onnx file with a model card.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "backend",
        "auto",
        "What runs the network; auto takes TensorRT if it works here (not run on a GPU yet), else "
        "ONNX Runtime.",
        choices=backend_names(),
        changes="unconfigured",
    ),
    ParameterSpec(
        "precision",
        "auto",
        "Number format of the network; auto takes the model file as it is. TensorRT makes fp16 of "
        "an fp32 file; what its engine really computes in is in /diagnostics.",
        choices=PRECISIONS,
        changes="unconfigured",
    ),
    ParameterSpec(
        "input_size",
        0,
        "Side of the square network input in pixels, at least 160; 0 takes the model's own.",
        low=0,
        high=MAX_SIDE,
        step=STRIDE,
        changes="unconfigured",
    ),
    ParameterSpec(
        "cpu_threads",
        0,
        "CPU threads of the network; 0 takes the cores of this process, at most four.",
        low=0,
        high=64,
        changes="unconfigured",
    ),
    ParameterSpec(
        "dla_core",
        -1,
        "Core of a Jetson's deep learning accelerator to run TensorRT on; -1 is the GPU. Not run "
        "on a DLA yet.",
        low=-1,
        high=3,
        changes="unconfigured",
    ),
    ParameterSpec(
        "engine_cache",
        "",
        "Folder of TensorRT engines; empty is ~/.cache/compact_yolo_ros/engines.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "score_threshold", 0.3, "Objects with a lower score are not published.", low=0, high=1
    ),
    ParameterSpec(
        "iou_threshold",
        0.5,
        "Of two boxes of one class that overlap by more, only the better one is published.",
        low=0,
        high=1,
    ),
    ParameterSpec("max_detections", 100, "At most this many objects an image.", low=1, high=300),
    ParameterSpec("classes", [""], "Class names to publish; empty publishes all."),
    ParameterSpec(
        "class_id_format",
        "name",
        "What class_id holds: the class name, or its number in ~/label_info.",
        choices=("name", "id"),
    ),
    ParameterSpec(
        "cameras",
        [""],
        "Names of several cameras for one network: each has <name>/image and ~/<name>/detections; "
        "empty is one camera on image.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "image_transport",
        "raw",
        "raw subscribes to the image topic, compressed to <image topic>/compressed (JPEG or PNG).",
        choices=("raw", "compressed"),
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
        "reliability",
        "auto",
        "QoS of the image subscription; auto asks for what the camera's publisher offers.",
        choices=("auto", "reliable", "best_effort"),
        changes="unconfigured",
    ),
    ParameterSpec(
        "max_age",
        0.0,
        "Images older than this many seconds are not processed; 0 processes the newest always.",
        low=0,
        high=3600,
    ),
    ParameterSpec("debug_image", True, "Draw ~/debug_image while somebody subscribes to it."),
    ParameterSpec(
        "target_fps",
        0.0,
        "Answers a second that the machine shall be able to give, over all cameras; 0 is no "
        "target. For a target the input gets smaller when it must.",
        low=0,
        high=1000,
    ),
    ParameterSpec(
        "max_latency",
        0.0,
        "Seconds from an image's receipt to its published answer that shall be held; 0 is no "
        "target.",
        low=0,
        high=60,
    ),
    ParameterSpec(
        "power_budget_w",
        0.0,
        "Mean power in watts that shall be held, where power can be read; 0 is no target.",
        low=0,
        high=10000,
    ),
    ParameterSpec(
        "governor_sizes",
        [224, 320, 416],
        "Sides of the network input that a target may lead to; those smaller than input_size are "
        "used beside it.",
        changes="unconfigured",
    ),
    ParameterSpec(
        "governor_skip",
        0,
        "Most images left out between two answers when the smallest size is not enough for "
        "max_latency or power_budget_w.",
        low=0,
        high=10,
    ),
    ParameterSpec(
        "power",
        "auto",
        "auto reads watts, clocks, temperatures and throttling for /diagnostics while active.",
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

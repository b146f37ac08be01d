# SPDX-License-Identifier: Apache-2.0
"""What papers and authors' repositories say of the detectors."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """Published figures of one detector.

    Attributes:
        source: the publication.
        data: the data set of its accuracy and its number of classes.
        input: side of the square input in pixels that the cost is given for.
        ap50: accuracy in percent by input size.
        size: in the unit that ``reading`` names.
        gmac: 10^9 multiply-accumulates (half of what is published as operations).
        remark: why ours differ.
        fps: images a second by device and input size; the device's text names the conditions.
    """

    source: str
    data: str
    input: int
    ap50: dict[int, float] = field(default_factory=dict)
    size: float | None = None
    reading: str = "MiB, float32"
    gmac: float | None = None
    remark: str = ""
    fps: dict[str, dict[int, float]] = field(default_factory=dict)


RET = "YOLO-ReT, Ganesh et al. 2021"
NANO, NX, AGX = "Jetson Nano, FP16", "Xavier NX, FP16", "AGX Xavier, FP16"
"""TensorRT, one image at a time, as measured by the authors of YOLO-ReT, also of others' models."""
FASTEST = "repository dog-qiuqiu/Yolo-Fastest"
STATISTICS = "MB, float32 and statistics"
RET_REMARK = (
    "the authors' code, followed here, is larger than their table; without the neck's bottom-up "
    'path (`neck="fpn"`) it is {} MiB with statistics'
)

PUBLISHED = {
    "yolo_ret_m075": Published(
        RET, "VOC 2007", 320, {416: 72.39, 320: 68.75, 224: 60.77}, 5.2,
        remark=RET_REMARK.format("5.23"),
        fps={NANO: {416: 19.87, 320: 33.19, 224: 55.16}, NX: {320: 71.64}, AGX: {320: 95.97}},
    ),
    "yolo_ret_m14": Published(
        RET, "VOC 2007", 320, {416: 73.32, 320: 70.35, 224: 62.91}, 12.3,
        remark=RET_REMARK.format("12.51"),
        fps={NANO: {416: 13.17, 320: 23.01, 224: 43.16}, NX: {320: 65.37}, AGX: {320: 93.49}},
    ),
    "yolo_ret_eb3": Published(
        RET, "VOC 2007", 320, {416: 76.49, 320: 72.96, 224: 65.52}, 28.3,
        remark=RET_REMARK.format("28.79"),
        fps={NANO: {416: 6.35, 320: 10.96, 224: 18.57}, NX: {320: 44.59}, AGX: {320: 75.61}},
    ),
    "yolo_nano": Published(
        "YOLO Nano, Wong et al. 2019", "VOC 2007", 416, {416: 69.1},
        4.0, "MiB, 8-bit kernels", 4.57 / 2,
        "expansions are not published; 8-bit size, its baselines' are float32",
        fps={
            "AGX Xavier at 15 W, 1.97 images/s/W": {416: 26.9},
            "AGX Xavier at 30 W, 1.61 images/s/W": {416: 48.2},
        },
    ),
    "micro_yolo": Published(
        "Micro-YOLO, Hu et al. 2021", "COCO 2017", 416, {416: 32.4}, 2.56, "M parameters", 1.10,
        "expansion and attention width are not published; with norms and activations counted as "
        "multiply-accumulates it is 1.09",
        fps={"a GPU that is not named": {416: 328}},
    ),
    "micro_yolo_pruned": Published(
        "Micro-YOLO, Hu et al. 2021", "COCO 2017", 416, {416: 29.3}, 1.92, "M parameters", 0.87,
        "the widths after pruning are published for two layers only, and as \"most\" for the rest",
        fps={"a GPU that is not named": {416: 357}},
    ),
    "yolo_fastest": Published(
        FASTEST, "COCO 2017", 320, {320: 24.40}, 0.35, "M values", 0.252 / 2,
    ),
    "yolo_fastest_xl": Published(
        FASTEST, "COCO 2017", 320, {320: 34.33}, 0.925, "M values", 0.725 / 2,
    ),
    "yolo_fastest_v1_0": Published(
        FASTEST, "VOC 2007", 320, {320: 61.02}, 1.3, STATISTICS, 0.23 / 2,
        "published with two digits, the operations cut off",
    ),
    "yolo_fastest_xl_v1_0": Published(
        FASTEST, "VOC 2007", 320, {320: 69.43}, 3.5, STATISTICS, 0.70 / 2,
    ),
    "tiny_yolov2": Published(
        "YOLO9000, Redmon and Farhadi 2016", "VOC 2007", 416, {416: 57.1},
        60.5, "MiB, float32", 6.97 / 2,
    ),
    "tiny_yolov3": Published(
        "YOLOv3, Redmon and Farhadi 2018", "VOC 2007", 416, {416: 58.4}, 34.9, STATISTICS, 5.52 / 2,
        "another paper has AP50 61.30; the 5.52 lie between 20 classes (5.47) and 80 (5.57)",
        fps={NANO: {416: 27.36}, NX: {416: 66.55}, AGX: {416: 91.71}},
    ),
    "tinier_yolo": Published(
        "Tinier-YOLO, Fang et al. 2020", "VOC 2007", 416, {416: 65.7}, 8.9, STATISTICS,
        fps={NANO: {416: 30.14}, NX: {416: 68.73}, AGX: {416: 92.09}},
    ),
    "yolov4_tiny": Published(
        "Scaled-YOLOv4, Wang et al. 2021; AP as repeated in YOLO-ReT", "COCO 2017", 416,
        {416: 40.2}, 23.1, "MiB, float32", 6.9 / 2,
        fps={NANO: {416: 29.55}, "RTX 2080 Ti": {416: 443}},
    ),
    "yolov4_tiny_3l": Published(
        RET, "COCO 2017", 608, {608: 47.2},
        fps={NANO: {608: 24.87}},
    ),
    "yolov4_tiny_rfcr": Published(
        RET, "COCO 2017", 416, {416: 41.5}, remark="where RFCR taps this detector is not published",
        fps={NANO: {416: 27.81}},
    ),
    "yolov4_tiny_3l_rfcr": Published(
        RET, "COCO 2017", 608, {608: 48.1}, remark="where RFCR taps this detector is not published",
        fps={NANO: {608: 21.40}},
    ),
}  # fmt: skip

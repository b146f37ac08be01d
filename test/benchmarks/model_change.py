# SPDX-License-Identifier: Apache-2.0
"""What a change of the model costs a running node: the gaps between its answers.

    python test/benchmarks/model_change.py [--rate 10] [--changes 6]

A process plays images at a fixed rate to a node in another process, and changes its model.
Printed are the images that were never answered, and the longest gaps between two answers, in
periods of the camera: while a model is opened, when it takes over, and in the rest of the time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from harness import DETECTOR, LATCHED, Client, image_message, running

from compact_yolo_ros.pixels.sample_images import sample_images

MODELS = ("yolo_fastest", "yolo_ret_m075")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=10.0, help="images per second")
    parser.add_argument("--changes", type=int, default=6)
    options = parser.parse_args()
    given = {"model": MODELS[1], "autostart": True, "cpu_threads": 1}
    client = Client()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(DETECTOR, Path(folder) / "log", given),
    ):
        measure(client, options.rate, options.changes)
    client.close()


def measure(client: Client, rate: float, changes: int) -> None:
    """Play images, change models, and print what was lost."""
    image = image_message(cv2.resize(sample_images()[0], (640, 480)))
    camera = client.node.create_publisher(Image, "/image", 5)
    sent: list[float] = []
    answers: list[tuple[float, float]] = []
    infos: list[float] = []

    def play() -> None:
        sent.append(time.time())
        image.header.stamp.sec, rest = divmod(time.time_ns(), 10**9)
        image.header.stamp.nanosec = rest
        camera.publish(image)

    def take(message: Detection2DArray) -> None:
        stamp = message.header.stamp
        answers.append((time.time(), stamp.sec + 1e-9 * stamp.nanosec))

    client.node.create_subscription(Detection2DArray, "/detector/detections", take, 10)
    client.node.create_subscription(
        LabelInfo, "/detector/label_info", lambda _: infos.append(time.time()), LATCHED
    )
    client.node.create_timer(1 / rate, play)
    client.wait_for(lambda: len(answers) > 20)
    client.spin(10.0)  # until the input fits
    marks = []
    for number in range(changes):
        before, began = len(infos), time.time()
        value = Parameter("model", value=MODELS[number % 2]).to_parameter_msg()
        client.call(SetParameters, "/detector/set_parameters", parameters=[value])
        client.wait_for(lambda before=before: len(infos) > before)
        marks.append((began, time.time()))
        client.spin(3.0)
    client.spin(1.0)
    report(sent, answers, marks, 1 / rate)


def report(
    sent: list[float],
    answers: list[tuple[float, float]],
    marks: list[tuple[float, float]],
    period: float,
) -> None:
    """Print the gaps in periods."""
    times = [when for when, _ in answers]
    gaps = [(a, b, (b - a) / period) for a, b in zip(times, times[1:], strict=False)]

    def longest(inside: bool, a: float, b: float) -> float:
        return max((gap for x, y, gap in gaps if (y >= a and x <= b) == inside), default=0.0)

    stamps = [stamp for _, stamp in answers]
    first = stamps[0]
    lost = sum(1 for when in sent if first < when < stamps[-1]) - (len(stamps) - 2)
    print(f"{len(stamps)} answers, {max(0, lost)} images without one")
    for began, ended in marks:
        missed = sum(
            1
            for when in sent
            if began - period < when < ended + period
            and not any(abs(stamp - when) < period / 4 for stamp in stamps)
        )
        gap = longest(True, began, ended + period)
        print(
            f"change in {1e3 * (ended - began):.0f} ms: longest gap {gap:.2f} periods, "
            f"lost {missed}"
        )
    quiet = [g for x, y, g in gaps if not any(y >= a and x <= b + period for a, b in marks)]
    print(f"otherwise: longest gap {max(quiet):.2f} periods")


if __name__ == "__main__":
    main()

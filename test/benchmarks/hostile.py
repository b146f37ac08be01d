# SPDX-License-Identifier: Apache-2.0
"""Send thousands of damaged and malicious images to the detector node, over DDS.

    python test/benchmarks/hostile.py --messages 20000
    python test/benchmarks/hostile.py --messages 20000 --transport raw

Every tenth message is a good image. The node must live on and answer the last one; its figures and
its memory are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "helpers")]
os.environ.setdefault("ROS_DOMAIN_ID", str(216 + os.getpid() % 17))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds_shm.xml"))

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from harness import DETECTOR, Client, NodeProcess, running, values_of  # noqa: E402
from hostile_images import HUGE, bombs, mutated, photo, seeds  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from vision_msgs.msg import Detection2DArray  # noqa: E402

GOOD_EVERY = 10
BOMB_EVERY = 25
"""One in so many hostile messages is a bomb; the others are damaged files."""
FORMATS = ("jpeg", "png", "bayer_rggb8; png compressed ", "mono16; png compressed mono16", "h264")
ENCODINGS = ("bgr8", "rgba8", "mono8", "mono16", "16UC1", "bayer_rggb8", "uyvy", "nv12", "", "x")
Make = Callable[[Random], Any]


def good_file(_: Random) -> CompressedImage:
    return CompressedImage(format="jpeg", data=array("B", seeds()["jpeg"]))


def hostile_file(random: Random) -> CompressedImage:
    if random.randrange(BOMB_EVERY) == 0:
        data = random.choice(list(bombs().values()))
    else:
        data = mutated(random.choice(list(seeds().values())), random)
    return CompressedImage(format=random.choice(FORMATS), data=array("B", data))


def good_pixels(_: Random) -> Image:
    return Image(width=64, height=48, step=192, encoding="bgr8", data=array("B", photo().tobytes()))


def hostile_pixels(random: Random) -> Image:
    """A good image with some of its fields changed."""
    message = good_pixels(random)
    message.encoding = random.choice(ENCODINGS)
    for name in ("width", "height", "step"):
        if random.random() < 0.3:
            setattr(message, name, random.choice(HUGE) & (2**32 - 1))
    if random.random() < 0.3:
        message.data = message.data[: random.randrange(len(message.data))]
    return message


TRANSPORTS: dict[str, tuple[type, str, Make, Make]] = {
    "compressed": (CompressedImage, "/image/compressed", good_file, hostile_file),
    "raw": (Image, "/image", good_pixels, hostile_pixels),
}


def bombard(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Send all messages; return what came of it."""
    kind, topic, good, hostile = TRANSPORTS[options.transport]
    client, random = Client(), Random(options.seed)
    states = client.collect(DiagnosticArray, "/diagnostics")
    answers = client.collect(Detection2DArray, "/detector/detections")
    publisher = client.node.create_publisher(kind, topic, 10)
    resident: list[float] = []

    def send(message: Any, number: int) -> None:
        message.header.frame_id = str(number)
        publisher.publish(message)

    def answered(number: int) -> bool:
        send(good(random), number)
        client.spin(0.1)
        return any(answer.header.frame_id == str(number) for answer in answers)

    with running(DETECTOR, folder / "detector.log", _parameters(options)) as node:
        client.wait_for(lambda: answered(-1))
        began = time.monotonic()
        for number in range(options.messages):
            send((hostile if number % GOOD_EVERY else good)(random), number)
            time.sleep(options.pause)
            if number % GOOD_EVERY == 0:
                client.spin(0.02)
            if number % 1000 == 0:
                resident.append(_resident(node))
                print(f"{number:6} sent  {resident[-1]:.1f} MB", file=sys.stderr)
        seconds = time.monotonic() - began
        client.wait_for(lambda: answered(options.messages))
        states.clear()
        client.wait_for(lambda: states)
        resident.append(_resident(node))
        peak = _peak(node)
    client.close()
    values = values_of(states[-1])
    names = ("images_received", "images_processed", "images_dropped", "decode_ms p99")
    return {
        "sent": options.messages,
        "seconds": round(seconds),
        "answers": len(answers),
        **{name: values[name] for name in names if name in values},
        **{name: value for name, value in values.items() if name.startswith("errors")},
        "resident_mb": {"first": resident[0], "last": resident[-1], "peak": peak},
        "exit_code": node.process.returncode,
    }


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "autostart": True,
        "cpu_threads": 1,
        "input_size": 160,
        "image_transport": options.transport,
    }


def _resident(node: NodeProcess) -> float:
    """Resident memory in MB."""
    return _status(node, "VmRSS")


def _peak(node: NodeProcess) -> float:
    return _status(node, "VmHWM")


def _status(node: NodeProcess, name: str) -> float:
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith(name):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"the node has ended:\n{node.output()[-2000:]}")


def main() -> None:
    """Run one bombardment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--transport", choices=sorted(TRANSPORTS), default="compressed")
    parser.add_argument("--model", default="yolo_fastest")
    parser.add_argument("--pause", type=float, default=0.003, help="seconds between messages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(bombard(options, Path(folder)), indent=1))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Measure the detector node as a process, fed by a camera process, with the shared-memory profile.

    python test/benchmarks/node.py latency --size 640x480
    python test/benchmarks/node.py overload
    python test/benchmarks/node.py start
    python test/benchmarks/node.py idle --seconds 60
    python test/benchmarks/node.py cameras --model yolo_fastest --threads 1
    python test/benchmarks/node.py cameras --max-batch 4 --backend tensorrt --engines ENGINES
    python test/benchmarks/node.py cameras --cameras 2 --apart --backend onnxruntime --threads 1
    python test/benchmarks/node.py swap --precision fp16
    python test/benchmarks/node.py soak --seconds 600

Every figure comes from the node's own /diagnostics or from /proc, and is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "helpers")]
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as where it is installed

from compact_yolo_ros.ros.child_process import prepare_environment  # noqa: E402

prepare_environment(ROOT / "config" / "fastdds_shm.xml")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from harness import Client, running, values_of  # noqa: E402
from vision_msgs.msg import Detection2DArray  # noqa: E402

from compact_yolo_ros.pixels.sample_images import sample_images  # noqa: E402
from compact_yolo_ros.ros.fast_dds import detector_environment  # noqa: E402

DETECTOR = "compact_yolo_ros.ros.run detector_node"
CAMERA = "compact_yolo_ros.ros.run video_publisher_node"
SLOW_DETECTOR = "slow_detector_node"
SMALL = {"environment": detector_environment(os.environ)}
"""The profile that the launch file gives the detector."""
MEASUREMENTS = ("latency", "overload", "start", "idle", "cameras", "swap", "soak")
WARM_UP = 6.0
"""Seconds before figures count: a little more than the window of /diagnostics."""


def latency(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Overhead of the node, and age at publish without the network's time."""
    states = _run(DETECTOR, options, folder)
    ages = [float(s["age_ms p50"]) - float(s["inference_ms p50"]) for s in states]
    overheads = [float(s["overhead_ms p50"]) for s in states]
    return {
        "overhead_ms_p50": round(float(np.median(overheads)), 3),
        "age_minus_inference_ms_p50": round(float(np.median(ages)), 3),
        "last": _short(states[-1]),
    }


def overload(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Age over time when the network takes 100 ms and the camera sends 30 images a second.

    The slow network is one of ONNX Runtime's, whatever the options say: no other may take over.
    """
    slow = argparse.Namespace(**vars(options) | {"backend": "onnxruntime"})
    states = _run(SLOW_DETECTOR, slow, folder)
    ages = [float(state["age_ms p50"]) for state in states]
    half = len(ages) // 2
    return {
        "age_ms_p50": round(float(np.median(ages)), 2),
        "age_ms_p50_first_half": round(float(np.median(ages[:half])), 2),
        "age_ms_p50_second_half": round(float(np.median(ages[half:])), 2),
        "last": _short(states[-1]),
    }


def start(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds from process start to the first detections, several times, and resident memory.

    Each start has a camera of its own: the Fast DDS of a camera that has sent to an earlier
    detector goes on to write to that one's shared memory, for up to a second.
    """
    client, seconds, computing, resident = Client(), [], [], []
    results = client.collect(Detection2DArray, "/detector/detections")
    for n in range(options.starts):
        with running(CAMERA, folder / f"camera{n}.log", _camera(options, folder)):
            client.spin(3)  # it sends, and nothing comes of the last detector any more
            results.clear()
            began = time.monotonic()
            with running(DETECTOR, folder / f"{n}.log", _detector(options), **SMALL) as node:
                client.wait_for(lambda: results)
                seconds.append(round(time.monotonic() - began, 2))
                computing.append(round(1e-9 * _scheduled(node.process.pid)[0], 2))
                client.spin(3)
                resident.append(_resident(node.process.pid))
    client.close()
    return {
        "seconds_to_first_result": seconds,
        "median": round(float(np.median(seconds)), 2),
        "cpu_seconds": computing,
        "resident_mb": resident,
    }


def cameras(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """CPU time and memory of one node for several cameras, or of a node for each of them."""
    names, client = ("front", "left", "rear", "right")[: options.cameras], Client()
    statuses: dict[str, Any] = {}
    client.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda message: statuses.update({status.name: status for status in message.status}),
        10,
    )
    source = {**_camera(options, folder), "rate": options.rate}
    detector = _detector(options)
    nodes = {name: detector for name in names} if options.apart else {"": detector}
    if not options.apart and len(names) > 1:
        nodes = {"": {**detector, "cameras": list(names)}}
    alone = nodes == {"": detector}
    with ExitStack() as started:
        for name in names:
            rule = ("-r", f"image:=/{'' if alone else name + '/'}image", "-r", f"__node:={name}")
            started.enter_context(running(CAMERA, folder / f"{name}.log", source, *rule))
        pids = []
        for name, given in nodes.items():
            rules = ("-r", f"__ns:=/{name}") if name else ()
            log = folder / f"detector{name}.log"
            pids.append(
                started.enter_context(running(DETECTOR, log, given, *rules, **SMALL)).process.pid
            )
        client.wait_for(lambda: len(_answered(statuses)) == len(names))
        client.spin(WARM_UP)
        before, first, began = _used(pids), _processed(statuses), time.monotonic()
        client.spin(options.seconds)
        used, seconds = _used(pids) - before, time.monotonic() - began
        images = _processed(statuses) - first
        memory = round(sum(map(_proportional, pids)), 1)
    client.close()
    return {
        "nodes": len(nodes),
        "percent_of_a_core": round(100 * used / seconds, 1),
        "images": images,
        "cpu_ms_an_image": round(1000 * used / images, 2),
        "pss_mb": memory,
        "cameras": _answered(statuses),
    }


def idle(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """CPU time of a node that waits for images, and how often its threads wake."""
    with running(DETECTOR, folder / "detector.log", _detector(options), **SMALL) as node:
        while "Waiting for images" not in node.output():
            time.sleep(0.1)
        time.sleep(WARM_UP)
        before, began = _scheduled(node.process.pid), time.monotonic()
        time.sleep(options.seconds)
        after, seconds = _scheduled(node.process.pid), time.monotonic() - began
        resident = _resident(node.process.pid)
    return {
        "percent_of_a_core": round(100e-9 * (after[0] - before[0]) / seconds, 3),
        "wakes_per_second": round((after[1] - before[1]) / seconds, 1),
        "resident_mb": resident,
    }


def swap(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """From the CPU to an engine that is built meanwhile, in a folder without one."""
    client = Client()
    states = _states(client)
    results = client.collect(Detection2DArray, "/detector/detections")
    parameters = {**_detector(options), "backend": "auto", "engine_cache": str(folder / "engines")}
    began = time.monotonic()
    with (
        running(CAMERA, folder / "camera.log", _camera(options, folder)),
        running(DETECTOR, folder / "detector.log", parameters, **SMALL),
    ):
        client.wait_for(lambda: results)
        answered = time.monotonic() - began
        client.wait_for(
            lambda: states and values_of(states[-1])["backend"] == "tensorrt", patience=240
        )
        swapped = time.monotonic() - began
        client.spin(WARM_UP)
    client.close()
    stamps = np.array([r.header.stamp.sec + 1e-9 * r.header.stamp.nanosec for r in results])
    return {
        "seconds_to_first_result": round(answered, 1),
        "seconds_to_the_engine": round(swapped, 1),
        "answers": len(stamps),
        "largest_gap_between_answered_images_ms": round(1e3 * float(np.diff(stamps).max()), 1),
        "last": _short(values_of(states[-1])),
    }


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Growth of resident memory over a long run."""
    client, samples = Client(), []
    with (
        running(CAMERA, folder / "camera.log", _camera(options, folder)),
        running(DETECTOR, folder / "detector.log", _detector(options), **SMALL) as node,
    ):
        states = _states(client)
        client.spin(20)
        began = time.monotonic()
        while time.monotonic() - began < options.seconds:
            client.spin(5)
            samples.append(_resident(node.process.pid))
            print(f"{time.monotonic() - began:6.0f} s  {samples[-1]:.1f} MB", file=sys.stderr)
        last = values_of(states[-1])
    client.close()
    return {
        "resident_mb_first_last": (samples[0], samples[-1]),
        "growth_percent": round(100 * (samples[-1] / samples[0] - 1), 2),
        "last": _short(last),
    }


def _states(client: Client) -> list[DiagnosticArray]:
    """What the detector says on /diagnostics from now on; the camera says something too."""
    states: list[DiagnosticArray] = []

    def keep(message: DiagnosticArray) -> None:
        if message.status[0].name.endswith(": detections"):
            states.append(message)

    client.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
    return states


def _run(module: str, options: argparse.Namespace, folder: Path) -> list[dict[str, str]]:
    """Run camera and detector; the diagnostics after the warm-up."""
    client = Client()
    states = _states(client)
    with (
        running(CAMERA, folder / "camera.log", _camera(options, folder)),
        running(module, folder / "detector.log", _detector(options), **SMALL),
    ):
        client.wait_for(lambda: states and "age_ms p50" in values_of(states[-1]))
        client.spin(WARM_UP)
        states.clear()
        client.spin(options.seconds)
    client.close()
    return [values_of(state) for state in states]


def _camera(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Parameters of a camera that sends real pictures of one size."""
    width, height = map(int, options.size.split("x"))
    if not options.source:
        picture = sample_images()[0]
        (folder / "frames").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "frames" / "0.png"), cv2.resize(picture, (width, height)))
    return {
        "source": f"'{options.source or folder / 'frames'}'",
        "rate": 30.0,
        "loop": True,
        "width": width,
        "height": height,
        "reliability": options.reliability,
    }


def _detector(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "autostart": True,
        "cpu_threads": options.threads,
        "score_threshold": options.score,
        "backend": options.backend,
        "precision": options.precision,
        "max_batch": options.max_batch,
        **({"engine_cache": options.engines} if options.engines else {}),
        **({"input_size": options.input_size} if options.input_size else {}),
    }


def _answered(statuses: dict[str, Any]) -> list[dict[str, str]]:
    """Rate and times of each camera that was answered."""
    names = ("fps_out", "age_ms p50", "inference_ms p50", "overhead_ms p50")
    found = [{pair.key: pair.value for pair in status.values} for status in statuses.values()]
    return [{n: values[n] for n in names} for values in found if "age_ms p50" in values]


def _processed(statuses: dict[str, Any]) -> int:
    """Images of all cameras; a node of several has their sum in the status that has no times."""
    nodes = [status for name, status in statuses.items() if name.endswith(": detections")]
    pairs = [pair for status in nodes for pair in status.values]
    return sum(int(pair.value) for pair in pairs if pair.key == "images_processed")


def _used(pids: list[int]) -> float:
    """Seconds of CPU time of processes."""
    return sum(1e-9 * _scheduled(pid)[0] for pid in pids)


def _proportional(pid: int) -> float:
    """Memory in MB, of which shared pages count in parts (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def _scheduled(pid: int) -> tuple[int, int]:
    """Nanoseconds that the threads of a process ran, and how many times."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    ran = [tuple(map(int, (task / "schedstat").read_text().split())) for task in tasks]
    return sum(nanoseconds for nanoseconds, *_ in ran), sum(times for *_, times in ran)


def _resident(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _short(state: dict[str, str]) -> dict[str, str]:
    names = (
        "model",
        "backend",
        "precision",
        "input_size",
        "threads",
        "fps_in",
        "fps_out",
        "images_dropped",
        "errors",
    )
    times = ("age", "waiting", "decode", "preprocess", "inference", "postprocess", "publish")
    percentiles = {
        f"{name}_ms p50/p95/p99": "/".join(state[f"{name}_ms p{p}"] for p in (50, 95, 99))
        for name in times
    }
    return {name: state[name] for name in names} | percentiles


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--size", default="640x480", help="of the images, width x height")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--model", default="yolo_ret_m075")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--score", type=float, default=0.3, help="score threshold")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--input-size", default="", help="of the network [fits the images]")
    parser.add_argument("--engines", default="", help="folder of TensorRT's engines")
    parser.add_argument("--reliability", default="best_effort")
    parser.add_argument("--cameras", type=int, default=4, help="one to four [4]")
    parser.add_argument("--rate", type=float, default=15.0, help="of each of several cameras")
    parser.add_argument("--max-batch", type=int, default=1, help="cameras' images in a run [1]")
    parser.add_argument("--apart", action="store_true", help="a node for each of the cameras")
    parser.add_argument("--source", default="", help="video or folder [one real picture]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[options.what](options, Path(folder)), indent=1))


if __name__ == "__main__":
    main()

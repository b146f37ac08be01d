# SPDX-License-Identifier: Apache-2.0
"""Measure how fast models are on this machine, side by side in one run, and what they consume.

    benchmark yolo_ret_m075 own.onnx --sizes 224 320 416 --threads 1 2 4 --spinning
    benchmark yolo_ret_m075 yolo_ret_m075_int8.onnx --backends onnxruntime openvino
    benchmark --zoo FOLDER --reference yolo_fastest --out docs
    benchmark --node yolo_ret_m075 --image-size 1920x1080

The whole graph is measured, from uint8 pixels to ranked boxes. Before each run of a model the
reference runs once: the ratio of the two, and its median over the rounds, is what other load on the
machine changes least. Where the power can be read, each network then runs for some seconds without
a pause. With --node a detector node is started instead, and its peak rate is looked for.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compact_yolo_ros.apps.benchmark.cases import Case, all_cases, named, spinning_too
from compact_yolo_ros.apps.benchmark.latency import measure
from compact_yolo_ros.apps.benchmark.peak_rate import NoRate, Peak
from compact_yolo_ros.apps.benchmark.plots import NEEDED, can_plot, plot_latencies, plot_peaks
from compact_yolo_ros.apps.benchmark.tables import (
    Rows,
    latency_rows,
    page,
    peak_rows,
    published_rows,
)
from compact_yolo_ros.backends import PRECISIONS, BackendError, backend_names
from compact_yolo_ros.backends.choice import GPU_DEVICES
from compact_yolo_ros.machine.description import describe_machine
from compact_yolo_ros.machine.power import NO_READING, PowerMonitor, find_power_source
from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model, model_names
from compact_yolo_ros.support.arguments import finite
from compact_yolo_ros.support.files import replacing, require_writable
from compact_yolo_ros.support.termination import terminable

FIRST_READING = 5.0
"""Most seconds until the power has been read for the first time."""

WIDTH = 200
"""Columns of a table that goes to a file or a program."""


class UsageError(ValueError):
    """What was asked for cannot be done; the message is one sentence."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the process's exit code."""
    options = _parse(arguments)
    monitor = PowerMonitor(
        partial(find_power_source, on_gpu=any(device.exists() for device in GPU_DEVICES))
    )
    try:
        if options.out:  # not to find out when all is measured
            _check_writable(options.out)
        with terminable():  # a node that was started ends with it
            _wait_for_power(monitor)
            (_benchmark_node if options.node else _benchmark_models)(options, monitor)
    except (ModelError, BackendError, UsageError, NoRate, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        monitor.close()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names or .onnx paths [all of the package]")
    parser.add_argument("--zoo", type=Path, help="measure all .onnx files of this folder instead")
    parser.add_argument("--reference", help="model that the ratios are to [the first]")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[], help="sides of the input [each model's own]"
    )
    parser.add_argument("--backends", choices=backend_names(), nargs="+", default=["auto"])
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=["auto"])
    parser.add_argument(
        "--threads", type=int, nargs="+", help="0 chooses [1 2; with --node the node's default]"
    )
    parser.add_argument(
        "--spinning",
        action="store_true",
        help="measure ONNX Runtime with spinning threads, too",
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--node", action="store_true", help="find the peak rate of the node")
    parser.add_argument(
        "--image-size", type=_size, default=(640, 480), metavar="WxH", help="[640x480]"
    )
    parser.add_argument("--image-transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--seconds", type=finite, default=5.0, help="of each run of the node [5]")
    parser.add_argument(
        "--out", type=Path, help="folder for the tables (JSON, Markdown) and the plot"
    )
    options = parser.parse_args(arguments)
    options.threads = options.threads or ([0] if options.node else [1, 2])
    if options.rounds < 1 or min(options.threads) < 0 or options.seconds <= 0:
        parser.error("--rounds must be at least 1, --threads 0, and --seconds above 0")
    if options.zoo and options.models:
        parser.error("give models or --zoo, not both")
    if options.node and options.spinning:
        parser.error("the node's threads do not spin: give --node or --spinning, not both")
    return options


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not like 1920x1080")
    return int(found[1]), int(found[2])


def _check_writable(folder: Path) -> None:
    try:
        require_writable(folder)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None


def _wait_for_power(monitor: PowerMonitor) -> None:
    """Wait until it is known what can be read."""
    end = monotonic() + FIRST_READING
    while monitor.summary().problem == NO_READING and monotonic() < end:
        sleep(0.05)
    if monitor.summary().source != "none":
        sleep(2.0)  # some meters tell the watts between two readings


def _benchmark_models(options: argparse.Namespace, monitor: PowerMonitor) -> None:
    models = _find_models(options)
    reference = options.reference or next(iter(named(models)))
    cases = _cases(options, models)
    if reference not in {case.name for case in cases}:
        raise UsageError(f"the reference '{reference}' is not among {', '.join(named(models))}")
    power = monitor.summary()
    facts = describe_machine(power)
    watts = monitor.summary if power.watts is not None else None
    measurement = measure(cases, reference, options.rounds, watts, _track)
    rows, published = latency_rows(measurement), published_rows(measurement)
    _print(rows)
    for failure in measurement.failures:
        print(f"benchmark: not measured: {failure}", file=sys.stderr)
    if not options.out:
        return
    name = "zoo" if options.zoo else "benchmark"
    how = (
        "Batch 1, from uint8 pixels to 300 ranked boxes, threads not spinning unless the name says "
        f"so; {options.rounds} rounds, models in turns. *Ratio* is to `{reference}`, run just "
        "before. *FPS* is one image after the other. Weights, trained or not, do not change the "
        "work."
    )
    plotted = _may_plot() and plot_latencies(options.out / f"{name}.png", measurement.timings)
    tables = {"": rows, "Published figures": published}
    notes = [f"Not measured: {failure}." for failure in measurement.failures]
    _write(
        options.out / f"{name}.md",
        page("Latency", how, tables, facts, notes, f"{name}.png" if plotted else ""),
    )
    content = {
        "environment": facts,
        "rounds": options.rounds,
        "reference": reference,
        "results": [timing.to_dict() for timing in measurement.timings],
        "published": [dict(zip(published[0], row, strict=True)) for row in published[1:]],
        "not_measured": measurement.failures,
    }
    _write_json(options.out / f"{name}.json", content)


def _benchmark_node(options: argparse.Namespace, monitor: PowerMonitor) -> None:
    if find_spec("rclpy") is None:
        raise UsageError("--node needs ROS 2: source its setup.bash")
    from compact_yolo_ros.ros.child_process import prepare_environment
    from compact_yolo_ros.support.resources import resource_directory

    cases = _cases(options, _find_models(options))
    # Before ROS is imported: DDS reads the environment that is prepared here.
    prepare_environment(resource_directory("config") / "fastdds_shm.xml")
    from compact_yolo_ros.apps.benchmark.node_load import (
        Images,
        NodeFailed,
        measure_node,
        middleware,
    )

    facts = describe_machine(monitor.summary())
    peaks: list[Peak] = []
    for case in cases:
        images = Images(options.image_size, options.image_transport, options.seconds)
        with Console(stderr=True).status("starting the node") as status:
            try:
                peaks.append(measure_node(case, images, monitor.summary, status.update))
            except NodeFailed as error:
                raise UsageError(f"{case}: {error}") from None
    facts["middleware"] = middleware()
    rows = peak_rows(peaks)
    _print(rows)
    if not options.out:
        return
    width, height = options.image_size
    how = (
        f"Images of {width}x{height} ({options.image_transport}) from one process, a detector node "
        "as another, answers back in the first, over DDS on this machine. *Peak* is the highest "
        "rate of publishing at which at most 5 % of the images have no answer, found by bisection; "
        f"mean of five runs of {options.seconds:g} s at that rate without the best and the worst. "
        "Milliseconds are from publishing an image to the arrival of its detections. A node that "
        "is busy skips to the newest image: that is a loss."
    )
    if _may_plot():
        plot_peaks(options.out / "node.png", peaks)
    picture = "node.png" if can_plot() else ""
    _write(
        options.out / "node.md", page("Peak rate of the node", how, {"": rows}, facts, (), picture)
    )
    content = {
        "environment": facts,
        "image_size": [width, height],
        "image_transport": options.image_transport,
        "results": [peak.to_dict() for peak in peaks],
    }
    _write_json(options.out / "node.json", content)


def _find_models(options: argparse.Namespace) -> list[ModelFile]:
    names = options.models or model_names()
    if options.zoo:
        names = [str(path) for path in sorted(options.zoo.glob("*.onnx"))]
        if not names:
            raise UsageError(
                f"{options.zoo} holds no .onnx files: "
                f"`python -m training.export_zoo {options.zoo}` writes all detectors there"
            )
    return [find_model(name) for name in names]


def _cases(options: argparse.Namespace, models: list[ModelFile]) -> list[Case]:
    try:
        sides = [check_side(side) for side in options.sizes]
    except ValueError as error:
        raise UsageError(str(error)) from None
    cases = all_cases(models, sides, options.backends, options.precisions, options.threads)
    return spinning_too(cases) if options.spinning else cases


def _track(turns: Sequence[int], title: str) -> Iterable[int]:
    return track(turns, title, console=Console(stderr=True))


def _print(rows: Rows) -> None:
    table = Table(*rows[0], box=SIMPLE, padding=(0, 1, 0, 0))
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _may_plot() -> bool:
    if not can_plot():
        print(f"benchmark: {NEEDED}", file=sys.stderr)
    return can_plot()


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def _write_json(path: Path, content: Any) -> None:
    _write(path, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

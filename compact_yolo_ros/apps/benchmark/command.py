# SPDX-License-Identifier: Apache-2.0
"""Measure how fast models are on this machine, side by side in one run, and what they consume.

    benchmark yolo_ret_m075 own.onnx --input-size 224 320 416x320 --threads 1 2 4 --spinning
    benchmark yolo_ret_m075 yolo_ret_m075_int8.onnx --backends onnxruntime openvino
    benchmark yolo_ret_m075 --input-size 320 320x320 --image-size 1280x720
    benchmark --zoo FOLDER --reference yolo_fastest --out docs
    benchmark --node yolo_ret_m075 --image-size 1920x1080

The whole graph is measured, from uint8 pixels to ranked boxes. The reference runs once before each
run of a model: other load on the machine changes the median of their ratio least. Where the power
can be read, each network then runs for some seconds without a pause. With --node, a detector node
is started instead, and its peak rate is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import join
from time import monotonic, sleep

from rich.progress import track
from rich.status import Status
from rich.text import Text

from compact_yolo_ros.apps.benchmark.latency import Measurement, measure
from compact_yolo_ros.apps.benchmark.peak_rate import NoRate, Peak
from compact_yolo_ros.apps.benchmark.results import write_latencies, write_peaks
from compact_yolo_ros.apps.benchmark.runs import Run, all_runs, named, with_spinning
from compact_yolo_ros.apps.benchmark.tables import Rows, latency_rows, peak_rows
from compact_yolo_ros.backends import PRECISIONS, BackendError, backend_names
from compact_yolo_ros.backends.arguments import INPUT_SIZE_HELP, cpu_threads, image_size, input_size
from compact_yolo_ros.backends.choice import GPU_DEVICES
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.backends.remembered import recall
from compact_yolo_ros.machine.description import describe_machine
from compact_yolo_ros.machine.power import NO_READING, PowerMonitor, find_power_source
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model, model_names
from compact_yolo_ros.support.arguments import positive, whole_number
from compact_yolo_ros.support.files import require_writable
from compact_yolo_ros.support.terminal import open_console, print_table
from compact_yolo_ros.support.termination import INTERRUPTED, terminable

FIRST_READING = 5.0
"""Longest wait in seconds for the first reading of the power."""


class UsageError(ValueError):
    """The command line asks for something impossible; the message is one sentence."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parse(arguments)
    monitor = PowerMonitor(
        partial(find_power_source, on_gpu=any(device.exists() for device in GPU_DEVICES))
    )
    try:
        if options.out:  # before everything is measured
            _check_writable(options.out)
        with terminable():  # ends a node that was started
            _wait_for_power(monitor)
            (_benchmark_node if options.node else _benchmark_models)(options, monitor)
    except (ModelError, BackendError, UsageError, NoRate, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        monitor.close()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names or .onnx paths [all of the package]")
    parser.add_argument("--zoo", type=Path, help="measure all .onnx files of this folder instead")
    parser.add_argument("--reference", help="model that the ratios refer to [the first]")
    parser.add_argument(
        "--input-size",
        type=input_size,
        nargs="+",
        action="extend",
        default=[],
        metavar="SIZE",
        help=INPUT_SIZE_HELP,
    )
    for name, known in (("--backends", backend_names()), ("--precisions", PRECISIONS)):
        parser.add_argument(name, choices=known, nargs="+", action="extend", help="[auto]")
    parser.add_argument(
        "--threads",
        type=cpu_threads,
        nargs="+",
        action="extend",
        help="0 chooses [1 2; with --node the node's default]",
    )
    parser.add_argument(
        "--spinning",
        action="store_true",
        help="also measure ONNX Runtime with spinning threads",
    )
    parser.add_argument("--rounds", type=whole_number(1), default=40)
    parser.add_argument("--node", action="store_true", help="find the peak rate of the node")
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="WIDTHxHEIGHT",
        help="of the camera's images in pixels, which inputs fit [squares; with --node 640x480]",
    )
    parser.add_argument("--image-transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument(
        "--seconds", type=positive, default=5.0, help="duration of each run of the node [5]"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the tables (JSON, Markdown) and the plot"
    )
    options = parser.parse_args(arguments)
    if options.node and options.image_size is None:
        options.image_size = Size(640, 480)
    options.backends = options.backends or [AUTO]
    options.precisions = options.precisions or [AUTO]
    options.threads = options.threads or ([0] if options.node else [1, 2])
    if options.zoo and options.models:
        parser.error("give models or --zoo, not both")
    for flag in ["--rounds", "--reference"] if options.node else ["--image-transport", "--seconds"]:
        name = flag.strip("-").replace("-", "_")
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"{flag} goes with{'out' if options.node else ''} --node")
    if options.node and options.spinning:
        parser.error("the node's threads do not spin: give --node or --spinning, not both")
    if options.spinning and not {AUTO, "onnxruntime"} & set(options.backends):
        parser.error("--spinning is of ONNX Runtime: add onnxruntime to --backends")
    return options


def _check_writable(folder: Path) -> None:
    try:
        require_writable(folder)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None


def _wait_for_power(monitor: PowerMonitor) -> None:
    """Wait until the power has been read, or cannot be."""
    end = monotonic() + FIRST_READING
    while monitor.summary().problem == NO_READING and monotonic() < end:
        sleep(0.05)
    if monitor.summary().source != "none":
        sleep(2.0)  # some meters give watts only between two readings


def _benchmark_models(options: argparse.Namespace, monitor: PowerMonitor) -> None:
    models = _find_models(options)
    reference = options.reference or next(iter(named(models)))
    runs = _runs(options, models)
    if reference not in {run.name for run in runs}:
        raise UsageError(f"the reference '{reference}' is not among {', '.join(named(models))}")
    power = monitor.summary()
    machine, timed = describe_machine(power), _timed(runs)
    watts = monitor.summary if power.watts is not None else None
    measurement = Measurement(reference)
    try:
        measure(measurement, runs, options.rounds, watts, _track)
    finally:  # what was measured with the first numbers of threads outlives an interruption
        if measurement.timings:
            _report_latencies(options, measurement, machine, timed)
    _check_all_measured(measurement.failures)


def _report_latencies(
    options: argparse.Namespace,
    measurement: Measurement,
    machine: dict[str, str],
    timed: dict[str, str],
) -> None:
    """Write the latencies and what nodes have timed if there is a folder, and print them."""
    name = "zoo" if options.zoo else "benchmark"
    try:
        if options.out:
            write_latencies(options.out, name, measurement, options.rounds, machine | timed)
    finally:  # neither a full disk nor a reader who has left keeps the other one from it
        _print(latency_rows(measurement))
        for name, fastest in timed.items():
            print(f"{name}: {fastest}")


def _benchmark_node(options: argparse.Namespace, monitor: PowerMonitor) -> None:
    if find_spec("rclpy") is None:
        raise UsageError("--node needs ROS 2: source its setup.bash")
    from compact_yolo_ros.ros.child_process import prepare_environment
    from compact_yolo_ros.ros.fast_dds import SENDER_PROFILE
    from compact_yolo_ros.support.resources import resource_directory

    runs = _runs(options, _find_models(options))
    # Before ROS is imported: DDS reads the environment that is prepared here.
    prepare_environment(resource_directory("config") / SENDER_PROFILE)
    from compact_yolo_ros.apps.benchmark.node_load import (
        Images,
        NodeFailed,
        measure_node,
        middleware,
    )

    facts = describe_machine(monitor.summary())
    peaks: list[Peak] = []
    failures: list[str] = []
    images = Images(options.image_size, options.image_transport, options.seconds)
    try:
        for run in runs:
            with open_console(stderr=True).status("starting the node") as status:
                try:
                    peaks.append(measure_node(run, images, monitor.summary, _show(status)))
                except NodeFailed as error:
                    failures.append(f"{run}: {error}")
                except NoRate as error:  # it names the run itself
                    failures.append(str(error))
    finally:  # each run takes minutes: what is measured outlives an interruption, too
        if peaks:
            _report_peaks(options, peaks, facts | {"middleware": middleware()})
    _check_all_measured(failures)


def _check_all_measured(failures: Sequence[str]) -> None:
    """Raise UsageError for what was asked for and could not be measured."""
    if failures:
        raise UsageError(f"not measured: {'; '.join(failures)}")


def _report_peaks(options: argparse.Namespace, peaks: list[Peak], facts: dict[str, str]) -> None:
    """Write the peak rates if there is a folder for them, and print them."""
    try:
        if options.out:
            write_peaks(
                options.out,
                peaks,
                options.image_size,
                options.image_transport,
                options.seconds,
                facts,
            )
    finally:
        _print(peak_rows(peaks))


def _find_models(options: argparse.Namespace) -> list[ModelFile]:
    names = options.models or model_names()
    if options.zoo:
        names = [str(path) for path in sorted(options.zoo.glob("*.onnx"))]
        if not names:
            line = join(["python", "-m", "training.export_zoo", str(options.zoo)])
            raise UsageError(
                f"{options.zoo} holds no .onnx files: `{line}` writes all detectors there"
            )
    return [find_model(name) for name in names]


def _runs(options: argparse.Namespace, models: list[ModelFile]) -> list[Run]:
    runs = all_runs(
        models,
        options.input_size,
        options.backends,
        options.precisions,
        options.threads,
        options.image_size,
    )
    return with_spinning(runs) if options.spinning else runs


def _timed(runs: list[Run]) -> dict[str, str]:
    """What nodes on this machine have timed for each model and size, and take."""
    found = {}
    for run in runs:
        model = find_model(run.options.model)
        try:
            timed = recall(model, run.options.resolved(model.card))
        except BackendError:
            continue  # it cannot be run so, which the measurement tells
        if timed.is_exact:
            found[f"auto for {run.name} at {run.size}"] = str(timed)
    return found


def _show(status: Status) -> Callable[[str], None]:
    return lambda text: status.update(Text(text))


def _track(turns: Sequence[int], title: str) -> Iterable[int]:
    return track(turns, title, console=open_console(stderr=True))


def _print(rows: Rows) -> None:
    print_table(open_console(), rows[0], rows[1:])


if __name__ == "__main__":
    sys.exit(main())

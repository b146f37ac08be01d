# SPDX-License-Identifier: Apache-2.0
"""How good and how fast a model is on a recording (rosbag2), without a running ROS.

    evaluate_bag --bag drive --model yolo_ret_m075 --ground-truth labels.json --out out/drive
    evaluate_bag --bag drive --topic /camera/image_raw --model small.onnx --realtime --out out/rt
    evaluate_bag --bag drive --model small.onnx --reference large.onnx --out out/agreement

After an interruption the same command continues. docs/bags.md says what is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compact_yolo_ros.apps.evaluate_bag.arguments import parse, settings_of
from compact_yolo_ros.apps.evaluate_bag.comparison_run import compare
from compact_yolo_ros.apps.evaluate_bag.detection_run import Interrupted
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.recording_evaluation import evaluate_recording
from compact_yolo_ros.apps.evaluate_bag.terminal_tables import print_comparison, print_results
from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.terminal import open_console
from compact_yolo_ros.support.termination import INTERRUPTED, terminable


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; return the process's exit code."""
    options = parse(arguments)
    console = open_console(stderr=True)
    try:
        with terminable():
            return _run(options, console)
    except (Interrupted, KeyboardInterrupt):
        print("evaluate_bag: interrupted; the same command continues from here", file=sys.stderr)
        return INTERRUPTED
    except (BagError, ModelError, BackendError, ValueError, OSError) as error:
        print(f"evaluate_bag: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    bag = Bag(options.bag)
    settings = settings_of(options, bag)
    with _ProgressBar(bag, settings.job, console) as progress:
        if options.compare:
            found = compare(settings, options.compare, bag, progress)
        else:
            results = evaluate_recording(settings, bag, progress)
    if options.compare:
        print_comparison(found, settings.out)
        failures = [f for candidate in found for f in candidate.results.failures()]
    else:
        print_results(results, settings.out)
        failures = results.failures()
    for sentence in dict.fromkeys(failures):
        print(f"evaluate_bag: {sentence}", file=sys.stderr)
    return 1 if failures else 0


class _ProgressBar:
    """Shows how many frames are done, and when all will be."""

    def __init__(self, bag: Bag, job: Job, console: Console) -> None:
        whole = sum(bag.topics[topic].count for topic in job.topics)
        start, stop = max(job.start, bag.start), min(job.stop, bag.end)
        share = (stop - start) / max(bag.end - bag.start, 1)
        self._total = max(1, round(whole * min(max(share, 0.0), 1.0)))
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Callable[[str, int], None]:
        self._progress.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, what: str, frames: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=self._total)
        self._progress.update(self._tasks[what], completed=frames)


if __name__ == "__main__":
    sys.exit(main())

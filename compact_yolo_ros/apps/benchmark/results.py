# SPDX-License-Identifier: Apache-2.0
"""Writes the results of a benchmark to a folder: JSON, a page of Markdown and a plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.benchmark.latency import Measurement
from compact_yolo_ros.apps.benchmark.peak_rate import Peak
from compact_yolo_ros.apps.benchmark.plots import (
    plot_latencies,
    plot_peaks,
    what_plots_need,
)
from compact_yolo_ros.apps.benchmark.tables import latency_rows, page, peak_rows, published_rows
from compact_yolo_ros.support.files import write_text


def write_latencies(
    folder: Path, name: str, measurement: Measurement, rounds: int, facts: Mapping[str, str]
) -> None:
    """Write the latencies of models.

    Args:
        folder: where to write.
        name: of the files, without suffix.
        measurement: the latencies.
        rounds: how often each network ran.
        facts: description of the machine.
    """
    method = (
        "Batch 1, from uint8 pixels to 300 ranked boxes, threads not spinning unless the name says "
        f"so; {rounds} rounds, models in turns. *Ratio* is to `{measurement.reference}`, which "
        "runs just before. *FPS* is one image after the other. Weights, trained or not, do not "
        "change the work."
    )
    published = published_rows(measurement)
    tables = {"": latency_rows(measurement), "Published figures": published}
    notes = [f"Not measured: {failure}." for failure in measurement.failures]
    content = {
        "environment": facts,
        "rounds": rounds,
        "reference": measurement.reference,
        "results": [timing.to_dict() for timing in measurement.timings],
        "published": [dict(zip(published[0], row, strict=True)) for row in published[1:]],
        "not_measured": measurement.failures,
    }
    _write_json(folder / f"{name}.json", content)
    plotted = _may_plot() and plot_latencies(folder / f"{name}.png", measurement.timings)
    picture = f"{name}.png" if plotted else ""
    write_text(folder / f"{name}.md", page("Latency", method, tables, facts, notes, picture))


def write_peaks(
    folder: Path,
    peaks: Sequence[Peak],
    image_size: tuple[int, int],
    image_transport: str,
    seconds: float,
    facts: Mapping[str, str],
) -> None:
    """Write the peak rates of nodes.

    Args:
        folder: where to write.
        peaks: the peak rates.
        image_size: (width, height) of the images in pixels.
        image_transport: ``raw`` or ``compressed``.
        seconds: duration of a run.
        facts: description of the machine.
    """
    width, height = image_size
    method = (
        f"Images of {width}x{height} ({image_transport}) from one process, a detector node in "
        "another, answers back to the first, over DDS on this machine. *Peak* is the highest "
        "publishing rate at which at most 5 % of the images have no answer, found by bisection; "
        f"mean of five runs of {seconds:g} s at that rate without the best and the worst. "
        "Milliseconds are from publishing an image to the arrival of its detections. A busy node "
        "skips to the newest image, which counts as a loss."
    )
    content = {
        "environment": facts,
        "image_size": [width, height],
        "image_transport": image_transport,
        "results": [peak.to_dict() for peak in peaks],
    }
    _write_json(folder / "node.json", content)
    plotted = _may_plot()
    if plotted:
        plot_peaks(folder / "node.png", peaks)
    tables = {"": peak_rows(peaks)}
    picture = "node.png" if plotted else ""
    write_text(
        folder / "node.md", page("Peak rate of the node", method, tables, facts, (), picture)
    )


def _may_plot() -> bool:
    if needed := what_plots_need():
        print(f"benchmark: {needed}", file=sys.stderr)
    return not needed


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")

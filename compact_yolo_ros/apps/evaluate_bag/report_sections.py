# SPDX-License-Identifier: Apache-2.0
"""The parts of the report that are about a recording, not about labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.evaluation.plots import COLOURS, new_figure, to_svg
from compact_yolo_ros.evaluation.report import Plot, Section, Table

WIDE = 7.0
"""Width of a plot over time in inches."""


def sections(
    results: Mapping[str, Any], seconds: NDArray[np.float64], ages: NDArray[np.float64]
) -> list[Section]:
    """The sections below the figures of accuracy.

    Args:
        results: as in results.json.
        seconds: (answered,) what each frame took.
        ages: (answered,) of the answers; empty unless in realtime.
    """
    found = [_frames(results), _speed(results, seconds, ages), _course(results)]
    if results["accuracy"]:
        found.append(_matching(results["accuracy"]))
    if results["recording"]["lost"]:
        text = " ".join(f"{sentence}." for sentence in results["recording"]["lost"])
        found.append(Section("What could not be read", text))
    return found


def _frames(results: Mapping[str, Any]) -> Section:
    head = ["topic", "frames", "answered", "dropped", "unreadable", "detections", "a frame"]
    rows = []
    for name, topic in results["topics"].items():
        frames = topic["frames"]
        unreadable = sum(frames["errors"].values())
        answered = max(frames["answered"], 1)
        total = topic["detections"]["all"]
        columns = (frames["all"], frames["answered"], frames["dropped"], unreadable, total)
        flicker = topic["detections"]["flicker"]["per_detection"]
        rows.append([name, *columns, total / answered, np.nan if flicker is None else flicker])
    errors = {
        f"{count} × {kind} ({topic['problems'][kind]})"
        for topic in results["topics"].values()
        for kind, count in topic["frames"]["errors"].items()
    }
    text = (
        f"Detections with a score from {results['threshold']} on. Flicker is the part of them that "
        "appear for one frame only, or are missing in one frame between two."
    )
    if errors:
        text += f" Unreadable: {', '.join(sorted(errors))}."
    return Section("Frames and detections", text, [Table([*head, "flicker"], rows)])


def _speed(
    results: Mapping[str, Any], seconds: NDArray[np.float64], ages: NDArray[np.float64]
) -> Section:
    speed = results["speed"]
    rows = [
        [name, *values.values()]
        for name, values in speed["stages_ms"].items()
        if values is not None
    ]
    if speed["age_ms"]:
        rows.append(["age of the answer", *speed["age_ms"].values()])
    figures = []
    if len(ages):
        caption = "Age of the answers: from the stamp of the image to its detections."
        figures.append(Plot(_histogram(1e3 * ages, "age in ms"), caption))
    if len(seconds):
        caption = "What a frame takes, from the bytes of the message to the detections."
        figures.append(Plot(_histogram(1e3 * seconds, "time of a frame in ms"), caption))
    power = results["power"]
    rate = speed["frames_per_second"]
    text = "" if rate is None else f"{rate:.1f} frames a second. "
    if power["watts"] is None:
        text += f"Power could not be read: {power['problem'] or 'nothing here tells it'}."
    else:
        text += f"{power['watts']:.1f} W ({power['source']})"
        text += (
            f", {power['joules_per_frame']:.3f} J a frame." if power["joules_per_frame"] else "."
        )
    return Section("Speed", text, [Table(["ms", "p50", "p95", "p99"], rows)], figures)


def _course(results: Mapping[str, Any]) -> Section:
    names = {"detections": "detections a frame", "dropped": "dropped frames a step"}
    figures = []
    for key, label in names.items():
        figure, axes = new_figure(WIDE)
        if not any(any(topic["over_time"][key]) for topic in results["topics"].values()):
            continue
        for number, (name, topic) in enumerate(results["topics"].items()):
            course = topic["over_time"]
            colour = COLOURS[number % len(COLOURS)]
            axes.step(course["second"], course[key], where="post", color=colour, label=name)
        axes.set_xlabel("seconds of the recording")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        if len(results["topics"]) > 1:
            axes.legend(frameon=False)
        figures.append(Plot(to_svg(figure), f"{label.capitalize()}, over the recording."))
    return Section("Over time", "" if figures else "Nothing was found.", (), figures)


def _matching(accuracy: Mapping[str, Any]) -> Section:
    rows = []
    for name, topic in accuracy["matching"].items():
        values = ((key, value) for key, value in topic.items() if key != "labels_from")
        rows.append([f"{name}, {topic['labels_from']}", *(_cell(value) for _, value in values)])
    first = next(iter(accuracy["matching"].values()))
    head = ["topic", *(key.replace("_", " ") for key in first if key != "labels_from")]
    text = (
        "A frame and a label belong together if each is the other's nearest in time, within the "
        "tolerance. Frames and labels that found none do not count. "
        f"{accuracy['unanswered']} labelled frames were not answered; they do not count either. "
        f"{accuracy['left_out']}"
    )
    return Section("Frames and labels", text, [Table(head, rows)])


def _cell(value: Any) -> Any:
    return np.nan if value is None else value


def _histogram(values: NDArray[np.float64], label: str) -> str:
    figure, axes = new_figure()
    # The last bin holds the tail, which would flatten everything else.
    limit = float(np.percentile(values, 99.5)) or 1.0
    axes.hist(np.minimum(values, limit), bins=40, color=COLOURS[0])
    for percent, style in ((50, "-"), (95, "--"), (99, ":")):
        at = float(np.percentile(values, percent))
        axes.axvline(at, linestyle=style, color=COLOURS[1], label=f"p{percent} {at:.1f} ms")
    axes.set_xlabel(label)
    axes.set_ylabel("frames")
    axes.legend(frameon=False)
    return to_svg(figure)

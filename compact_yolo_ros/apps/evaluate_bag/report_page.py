# SPDX-License-Identifier: Apache-2.0
"""The report of a recording's evaluation: figures of accuracy, and what is about a recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.accuracy import Accuracy
from compact_yolo_ros.apps.evaluate_bag.results import (
    OFFLINE,
    REALTIME,
    AccuracyResults,
    Results,
    TopicResults,
    TrackingResults,
)
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import TopicStatistics
from compact_yolo_ros.apps.evaluate_bag.video import read_pixels
from compact_yolo_ros.apps.evaluate_bag.worst_frames import ExampleFrame
from compact_yolo_ros.evaluation.example_images import ExampleImage
from compact_yolo_ros.evaluation.plots import COLOURS, add_legend, new_figure, to_svg
from compact_yolo_ros.evaluation.report import Plot, Section, ShownEvaluation, Table, write_report
from compact_yolo_ros.evaluation.result import Summary
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.support.plain_values import to_plain
from compact_yolo_ros.support.wording import counted

WIDE = 7.0
"""Width of a plot over time in inches."""


def write_page(
    path: Path,
    bag: Bag,
    results: Results,
    statistics: Mapping[str, TopicStatistics],
    accuracy: Accuracy | None,
) -> None:
    """Write the report.

    Args:
        path: HTML file.
        bag: the recording, for the images to show.
        results: what is in results.json.
        statistics: by topic.
        accuracy: None without labels.

    Raises:
        ReportError: a library is missing.
        OSError: the file cannot be written.
    """
    shown = []
    if accuracy is not None:
        examples = filter(None, (_example(bag, frame) for frame in accuracy.worst))
        shown = [ShownEvaluation(results.model.name, accuracy.evaluation, list(examples))]
    seconds = np.concatenate([found.seconds for found in statistics.values()]).sum(1)
    seconds = seconds[~np.isnan(seconds)]
    ages = np.empty(0)
    if results.mode == REALTIME:
        ages = np.concatenate([found.ages for found in statistics.values()])
    title = f"{results.model.name} on {Path(results.recording.paths[0]).name}"
    write_report(path, title, shown, _facts(results), sections(results, seconds, ages))


def machine_line(environment: Mapping[str, str]) -> str:
    """The machine of an evaluation, for people."""
    return "{processor}, {cores} cores, {system}".format(**environment)


def _facts(results: Results) -> dict[str, str]:
    model = results.model
    facts = {
        "Recording": ", ".join(results.recording.paths),
        "Length": f"{results.recording.seconds:.1f} s",
        "Model": f"{model.given}, {model.precision}, input {model.input_size}",
        "Run by": f"{model.backend} on {model.device}, {counted(model.threads, 'thread')}",
        "Warning": model.warning,
        "Mode": _mode(results),
        "Compared with": results.accuracy.against if results.accuracy else "nothing",
        "Machine": machine_line(results.environment),
        "Evaluated": results.environment["time"],
    }
    return {name: text for name, text in facts.items() if text}


def _mode(results: Results) -> str:
    if results.mode == OFFLINE:
        return "every frame, as fast as possible"
    if results.playback_rate is not None:
        return f"a live node, to which it was played at {results.playback_rate:g} times its pace"
    fixed = results.fixed_latency_s
    how = "as measured here" if fixed is None else f"{1e3 * fixed:.0f} ms"
    return f"as on a robot: the newest frame only, where a frame takes {how}"


def _example(bag: Bag, frame: ExampleFrame) -> ExampleImage | None:
    pixels = read_pixels(bag, Codec(bag.topics.values()), frame.topic, frame.time)
    if pixels is None:
        return None
    return ExampleImage(pixels, frame.truth, frame.detections, frame.caption)


def sections(
    results: Results, seconds: NDArray[np.float64], ages: NDArray[np.float64]
) -> list[Section]:
    """The sections below the figures of accuracy.

    Args:
        results: what is in results.json.
        seconds: (n,) what each answered frame took for which that is known.
        ages: (answered,) of the detections in seconds; empty unless in realtime.
    """
    found = [_frames(results), _stream(results.topics), _speed(results, seconds, ages)]
    found.append(_course(results.topics))
    if results.tracking:
        found.append(_tracking(results.tracking))
    if results.accuracy:
        found += [*_by_topic(results.accuracy), *_streaming(results.accuracy)]
        found.append(_matching(results.accuracy))
    if results.recording.lost:
        text = " ".join(f"{sentence}." for sentence in results.recording.lost)
        found.append(Section("What could not be read", text))
    if results.recording.doubts:
        text = " ".join(
            f"{sentence[0].upper()}{sentence[1:]}." for sentence in results.recording.doubts
        )
        found.append(Section("What is doubtful", text))
    return found


def _frames(results: Results) -> Section:
    head = ["topic", "frames", "answered", "dropped", "unreadable", "detections", "a frame"]
    rows = []
    for name, topic in results.topics.items():
        frames, total = topic.frames, topic.detections.all
        unreadable = sum(frames.errors.values())
        columns = (frames.all, frames.answered, frames.dropped, unreadable, total)
        flicker = topic.detections.flicker.per_detection
        per_frame = total / max(frames.answered, 1)
        rows.append([name, *columns, per_frame, flicker])
    text = (
        f"Detections with a score from {results.threshold} on. Flicker is the part of them that "
        "appear for one frame only, or are missing in one frame between two."
    )
    for title, counts in (
        ("Not answered", {name: topic.unanswered for name, topic in results.topics.items()}),
        ("Unreadable", {name: topic.frames.errors for name, topic in results.topics.items()}),
    ):
        if reasons := _reasons(results.topics, counts):
            text += f" {title}: {', '.join(reasons)}."
    return Section("Frames and detections", text, [Table([*head, "flicker"], rows)])


def _stream(topics: Mapping[str, TopicResults]) -> Section:
    head = ["topic", "images/s", "interval ms p50", "p95", "p99", "jitter ms", "longest gap ms"]
    rows = []
    for name, topic in topics.items():
        if topic.stream is not None:
            came = topic.stream
            values = (came.rate, *(came.interval_ms or (None, None, None)), came.jitter_ms)
            rows.append([name, *values, came.longest_gap_ms, came.longest_gap_at])
    text = "How the images came, by the recorder's clock. Jitter is the median deviation from p50."
    return Section("Input stream", text, [Table([*head, "at s"], rows)])


def _by_topic(accuracy: AccuracyResults) -> list[Section]:
    """Accuracy of each camera; nothing for a single one."""
    if not accuracy.topics:
        return []
    rows = [[name, *summary.named().values()] for name, summary in accuracy.topics.items()]
    return [Section("Cameras", "", [Table(["topic", *Summary.names()], rows)])]


def _streaming(accuracy: AccuracyResults) -> list[Section]:
    """Streaming accuracy beside that of the answered frames; nothing unless in realtime."""
    if accuracy.streaming is None:
        return []
    text = (
        "What the robot knew when each labelled image came: the newest detections that were "
        "finished by then, those of an earlier image. Dropped images count, too. After Li, Wang "
        "and Ramanan, Towards Streaming Perception (2020)."
    )
    rows = [
        ["streaming", *accuracy.streaming.named().values()],
        ["answered images, however late", *accuracy.summary.named().values()],
    ]
    return [Section("Streaming accuracy", text, [Table(["", *Summary.names()], rows)])]


def _reasons(
    topics: Mapping[str, TopicResults], counts: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Each kind of frame without detections with its number and why, for people."""
    return sorted(
        {
            f"{count} × {kind} ({topics[name].problems[kind]})"
            for name, kinds in counts.items()
            for kind, count in kinds.items()
        }
    )


def _speed(results: Results, seconds: NDArray[np.float64], ages: NDArray[np.float64]) -> Section:
    speed = results.speed
    rows = [[name, *values] for name, values in speed.stages_ms.named().items()]
    if speed.age_ms:
        rows.append(["age of the detections", *speed.age_ms])
    plots = []
    if len(ages):
        caption = "Age: from the stamp of an image to its detections."
        plots.append(Plot(_histogram(1e3 * ages, "age in ms"), caption))
    if len(seconds):
        caption = "What a frame takes, from the bytes of the message to the detections."
        plots.append(Plot(_histogram(1e3 * seconds, "time of a frame in ms"), caption))
    rate = speed.frames_per_second
    text = ("" if rate is None else f"{rate:.1f} frames a second. ") + _power(results)
    return Section("Speed", text, [Table(["ms", "p50", "p95", "p99"], rows)], plots)


def _power(results: Results) -> str:
    power = results.power
    if power.watts is None:
        return f"Power could not be read: {power.problem or 'this machine has no sensor for it'}."
    joules = "" if power.joules_per_frame is None else f", {power.joules_per_frame:.3f} J a frame"
    return f"{power.watts:.1f} W ({power.source}){joules}."


def _course(topics: Mapping[str, TopicResults]) -> Section:
    labels = {"detections": "detections a frame", "dropped": "dropped frames a step"}
    plots = []
    for what, label in labels.items():
        courses = {
            name: (topic.over_time.second, getattr(topic.over_time, what))
            for name, topic in topics.items()
        }
        if not any(np.nansum(values) for _, values in courses.values()):
            continue
        figure, axes = new_figure(WIDE)
        for number, (name, (second, values)) in enumerate(courses.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.step(second, values, where="post", color=colour, label=name)
        axes.set_xlabel("seconds of the recording")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        if len(topics) > 1:
            add_legend(axes)
        caption = f"{label.capitalize()}, over the recording."
        plots.append(Plot(to_svg(figure), caption, wide=True))
    return Section("Over time", "" if plots else "Nothing was found.", (), plots)


def _tracking(tracking: TrackingResults) -> Section:
    head = ["topic", "tracks", "brief", "median s", "interruptions", "fragmentation", "flicker"]
    rows = []
    for name, found in tracking.topics.items():
        numbers = (found.tracks, found.brief, found.median_seconds, found.interruptions)
        rows.append([name, *numbers, found.fragmentation, found.flicker.per_detection])
    tables = [Table(head, rows)]
    text = (
        "Brief tracks last half a second at most. An interruption is a track that was missing in a "
        "frame and came back; fragmentation is interruptions a track."
    )
    if tracking.accuracy is not None:
        figures = to_plain(tracking.accuracy)
        tables.append(Table(list(figures), [list(figures.values())]))
        text += " The second table compares them with the tracks in the labels, at an IoU of 0.5."
    if tracking.left_out:
        text += f" They are not compared: {tracking.left_out}."
    return Section("Tracks", text, tables)


def _matching(accuracy: AccuracyResults) -> Section:
    rows, head = [], ["topic"]
    for name, counts in accuracy.matching.items():
        values = to_plain(counts)
        source = values.pop("labels_from")
        head = ["topic", *(key.replace("_", " ") for key in values)]
        rows.append([f"{name}, {source}", *values.values()])
    text = (
        "A frame and a label belong together if each is the other's nearest in time, within the "
        "tolerance. Frames and labels without a partner do not count. "
        f"{accuracy.unanswered} labelled frames were not answered; they do not count either. "
        f"{accuracy.left_out}"
    )
    return Section("Frames and labels", text, [Table(head, rows)])


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
    add_legend(axes)
    return to_svg(figure)

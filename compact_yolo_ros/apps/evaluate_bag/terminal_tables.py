# SPDX-License-Identifier: Apache-2.0
"""What ``evaluate_bag`` prints at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.comparison import Candidate
from compact_yolo_ros.apps.evaluate_bag.results import AccuracyResults, Results, TrackingResults
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.plain_values import to_plain
from compact_yolo_ros.support.terminal import open_console, pairs_table, print_table, say


def print_results(results: Results, out: Path) -> None:
    """Print the main figures, what is wrong with them, and where the rest is."""
    console = open_console()
    console.print(pairs_table([*_summary(results).items()]))
    lines = [f"Warning: {results.model.warning}"] if results.model.warning else []
    for name, topic in results.topics.items():
        lines += [f"{name}: {kind}: {problem}" for kind, problem in topic.problems.items()]
    lines += [f"Lost: {sentence}" for sentence in results.recording.lost]
    lines += [f"Doubtful: {sentence}" for sentence in results.recording.doubts]
    lines += [results.accuracy.left_out] if results.accuracy else []
    lines += [f"Written: {out / ('results.json' if results.report else 'report.html')}"]
    for line in filter(None, [*lines, results.report]):
        say(console, line)


def print_comparison(found: Sequence[Candidate], out: Path) -> None:
    """Print the main figures of several models side by side."""
    head = ("", "AP", "AP50", "ms p50", "J a frame", "frames/s", "answered")
    rows = []
    for candidate in found:
        figures = candidate.figures()
        numbers = (figures.ap, figures.ap50, candidate.latency_ms, figures.joules_per_frame)
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        rate = figures.frames_per_second
        cells.append("-" if rate is None else f"{rate:.1f}")
        rows.append([candidate.name, *cells, f"{figures.answered_share:.1%}"])
    console = open_console()
    print_table(console, head, rows)
    for text, names in _evaluated_by(found).items():
        say(console, f"AP of {', '.join(names)}: {text}")
    say(console, f"Written: {out / 'comparison.html'}")


def _evaluated_by(found: Sequence[Candidate]) -> dict[str, list[str]]:
    """What average precision is of, with the names of the candidates for which it is that."""
    texts: dict[str, list[str]] = {}
    for candidate in found:
        if (accuracy := candidate.results.accuracy) is not None:
            texts.setdefault(_evaluated(accuracy), []).append(candidate.name)
    return texts


def _summary(results: Results) -> dict[str, str]:
    model, speed = results.model, results.speed
    what = f"{model.name} {model.precision}, {model.input_size}"
    rows = {"model": f"{what}, {model.backend} on {model.device}"}
    for name, topic in results.topics.items():
        frames = topic.frames
        parts = [f"{frames.answered} answered"]
        parts += [f"{frames.dropped} dropped"] if frames.dropped else []
        parts += [f"{n} {kind}" for kind, n in (topic.unanswered | frames.errors).items()]
        rows[name] = ", ".join(parts)
    rows["total, p50 / p95 / p99"] = _milliseconds(speed.stages_ms.total)
    rows["inference, p50 / p95 / p99"] = _milliseconds(speed.stages_ms.inference)
    if speed.age_ms:
        rows["age, p50 / p95 / p99"] = _milliseconds(speed.age_ms)
    if results.playback_rate not in (None, 1.0):
        rows["playback rate"] = f"{results.playback_rate:g}; ages are those of rate 1"
    if speed.frames_per_second is not None:
        rows["frames a second"] = f"{speed.frames_per_second:.1f}"
    if results.power.watts is not None:
        rows["power"] = f"{results.power.watts:.1f} W"
    if results.accuracy:
        rows["compared with"] = results.accuracy.against
        rows["evaluated"] = _evaluated(results.accuracy)
        rows |= {f"labels of {topic}": text for topic, text in _labels(results.accuracy)}
        figures = results.accuracy.summary.named()
        for name in ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"):
            rows[name] = "-" if math.isnan(figures[name]) else f"{figures[name]:.3f}"
    return rows | (_tracks(results.tracking) if results.tracking else {})


def _tracks(tracking: TrackingResults) -> dict[str, str]:
    rows = {}
    for topic, found in tracking.topics.items():
        fragmentation = "-" if found.fragmentation is None else f"{found.fragmentation:.2f}"
        rows[f"tracks of {topic}"] = (
            f"{found.tracks}, {found.brief} of them brief, fragmentation {fragmentation}"
        )
    if tracking.left_out:
        rows["tracks in the labels"] = tracking.left_out
    if tracking.accuracy is None:
        return rows
    for name, value in to_plain(tracking.accuracy).items():
        if name in ("HOTA", "MOTA", "IDF1"):
            rows[name] = "-" if value is None else f"{value:.3f}"
    return rows | {"identity switches": str(tracking.accuracy.switches)}


def _evaluated(accuracy: AccuracyResults) -> str:
    text = f"{accuracy.images} images, {accuracy.objects} objects"
    unanswered = f"; {accuracy.unanswered} labelled images were not answered"
    return text + unanswered * bool(accuracy.unanswered)


def _labels(accuracy: AccuracyResults) -> Iterator[tuple[str, str]]:
    """Where a topic's labels are from, and what was not evaluated of them, for people."""
    for topic, counts in accuracy.matching.items():
        parts = [f"{counts.labels_from}: {counts.matched} of {counts.labels} matched"]
        if counts.labels_without_frame:
            parts.append(f"{counts.labels_without_frame} without an image")
        if counts.frames_without_label:
            parts.append(f"{counts.frames_without_label} images without a label")
        yield topic, ", ".join(parts)


def _milliseconds(values: Percentiles | None) -> str:
    return "-" if values is None else " / ".join(f"{value:.1f}" for value in values) + " ms"

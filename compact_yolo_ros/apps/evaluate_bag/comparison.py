# SPDX-License-Identifier: Apache-2.0
"""Finished evaluations of one recording side by side: accuracy, latency and energy."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from compact_yolo_ros.apps.evaluate_bag.report_page import machine_line
from compact_yolo_ros.apps.evaluate_bag.results import ModelFacts, Results
from compact_yolo_ros.detection.view import PLAIN, View
from compact_yolo_ros.evaluation.plots import COLOURS, new_figure, to_svg
from compact_yolo_ros.evaluation.report import Plot, Section, Table, write_report
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.plain_values import JsonKey, to_plain
from compact_yolo_ros.support.wording import counted


@dataclass(frozen=True)
class Cost:
    """What accuracy is weighed against: an axis of a plot.

    Attributes:
        label: of the axis.
        of: what it shows of a candidate.
        measured_by: what candidates must have in common to be on one front.
    """

    label: str
    of: Callable[[Candidate], float | None]
    measured_by: Callable[[Candidate], object]


@dataclass(frozen=True)
class CandidateFigures:
    """The figures of a finished evaluation, as they are in comparison.json.

    Average precision is None without labels, or without objects; ``images`` and ``objects`` are
    those it is of. ``meter`` is where the power was read. The others are as in ``Results``.
    """

    name: str
    backend: str
    device: str
    precision: str
    input_size: Size
    threads: int
    parameters: int
    images: int | None
    objects: int | None
    ap: Annotated[float | None, JsonKey("AP")]
    ap50: Annotated[float | None, JsonKey("AP50")]
    ap75: Annotated[float | None, JsonKey("AP75")]
    ap_small: Annotated[float | None, JsonKey("AP small")]
    ap_medium: Annotated[float | None, JsonKey("AP medium")]
    ap_large: Annotated[float | None, JsonKey("AP large")]
    latency_ms: Percentiles | None
    age_ms: Percentiles | None
    frames_per_second: float | None
    answered_share: Annotated[float, JsonKey("answered")]
    joules_per_frame: float | None
    machine: str
    meter: str


@dataclass(frozen=True)
class Candidate:
    """One finished evaluation.

    Attributes:
        name: unlike those of the other candidates.
        results: what it found.
    """

    name: str
    results: Results

    @property
    def average_precision(self) -> float | None:
        """AP; None without labels, or without objects."""
        accuracy = self.results.accuracy
        return None if accuracy is None else _known(accuracy.summary.ap)

    @property
    def latency_ms(self) -> float | None:
        """Median of the time from message to detections; None if no frame was answered."""
        total = self.results.speed.stages_ms.total
        return None if total is None else total.p50

    @property
    def joules(self) -> float | None:
        """Energy of a frame; None if the power could not be read."""
        return self.results.power.joules_per_frame

    @property
    def machine(self) -> str:
        """Processor and cores: what latencies are of."""
        return _machine(self.results)

    @property
    def meter(self) -> str:
        """Where the power was read; empty if it could not be."""
        return "" if self.joules is None else self.results.power.source

    @property
    def answered_share(self) -> float:
        """Part of the frames that were answered."""
        counts = [topic.frames for topic in self.results.topics.values()]
        return sum(c.answered for c in counts) / max(1, sum(c.all for c in counts))

    def figures(self) -> CandidateFigures:
        """The figures for comparison.json."""
        model, speed, accuracy = self.results.model, self.results.speed, self.results.accuracy
        summary = accuracy.summary if accuracy else None
        return CandidateFigures(
            name=self.name,
            backend=model.backend,
            device=model.device,
            precision=model.precision,
            input_size=model.input_size,
            threads=model.threads,
            parameters=model.parameters,
            images=accuracy.images if accuracy else None,
            objects=accuracy.objects if accuracy else None,
            ap=self.average_precision,
            ap50=_known(summary.ap50) if summary else None,
            ap75=_known(summary.ap75) if summary else None,
            ap_small=_known(summary.ap_small) if summary else None,
            ap_medium=_known(summary.ap_medium) if summary else None,
            ap_large=_known(summary.ap_large) if summary else None,
            latency_ms=speed.stages_ms.total,
            age_ms=speed.age_ms,
            frames_per_second=speed.frames_per_second,
            answered_share=self.answered_share,
            joules_per_frame=self.joules,
            machine=self.machine,
            meter=self.meter,
        )


COSTS = {
    "latency": Cost("median milliseconds of a frame", lambda c: c.latency_ms, lambda c: c.machine),
    "energy": Cost("joules of a frame", lambda c: c.joules, lambda c: (c.machine, c.meter)),
}
"""The axes of the two kinds of Pareto fronts."""


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def candidates(results: Sequence[Results]) -> list[Candidate]:
    """Name finished evaluations by what differs between them.

    Raises:
        BagError: there are less than two, they are of other frames or labels, or two are the same.
    """
    if len(results) < 2:
        raise BagError("a comparison needs at least two evaluations")
    for what, value in _SAME.items():
        values = [value(result) for result in results]
        if any(other != values[0] for other in values):
            raise BagError(f"the evaluations differ in their {what}: compare what was run alike")
    models = [result.model for result in results]
    parts = [
        [
            _name(model, models),
            str(model.input_size),
            model.backend,
            model.precision,
            counted(model.threads, "thread"),
            _machine(result),
        ]
        for result, model in zip(results, models, strict=True)
    ]
    differing = [n for n in range(len(parts[0])) if n == 0 or len({row[n] for row in parts}) > 1]
    names = [", ".join(row[n] for n in differing) for row in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BagError(f"'{twice}' is compared with itself: two of the evaluations are alike")
    return [Candidate(name, result) for name, result in zip(names, results, strict=True)]


def _name(model: ModelFacts, models: Sequence[ModelFacts]) -> str:
    """The model's name; what the user called it where another one has the same."""
    given = {other.given for other in models if other.name == model.name}
    return model.name if len(given) == 1 else model.given


def _machine(results: Results) -> str:
    facts = (results.environment.get("processor", ""), results.environment.get("cores", ""))
    return "{}, {} cores".format(*facts)


def _labels_of(results: Results) -> object:
    if results.accuracy is None:
        return None
    accuracy = results.accuracy
    counts = {
        topic: (found.labels_from, found.labels, found.tolerance_ms)
        for topic, found in accuracy.matching.items()
    }
    return accuracy.against, accuracy.labels_sha256, counts


def _view_of(results: Results) -> View | None:
    """How the images were seen; without tiles, their overlap does not matter."""
    view = results.view
    return view if view is None or view.has_tiles else replace(view, overlap=PLAIN.overlap)


_SAME: dict[str, Callable[[Results], object]] = {
    "recording": lambda r: (list(map(os.path.realpath, r.recording.paths)), list(r.topics)),
    "part of the recording": lambda r: (r.recording.start_ns, r.recording.end_ns),
    "mode": lambda r: (r.mode, r.fixed_latency_s),
    "playback rate": lambda r: r.playback_rate or 1.0,
    "view of the images": _view_of,
    "score threshold": lambda r: (r.threshold, r.class_thresholds),
    "sizes of boxes": lambda r: (r.min_box_size, r.max_box_size),
    "labels": _labels_of,
}
"""What evaluations must have in common to be compared."""


def fronts(found: Sequence[Candidate], cost: Cost) -> list[list[Candidate]]:
    """A Pareto front for each machine, or meter: costs of different ones are not comparable."""
    groups: dict[object, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(cost.measured_by(candidate), []).append(candidate)
    return [kept for group in groups.values() if (kept := front(group, cost))]


def front(found: Sequence[Candidate], cost: Cost) -> list[Candidate]:
    """The Pareto front: none is as accurate and cheaper, or as cheap and more accurate.

    Args:
        found: measured alike; those whose average precision or cost is not known are left out.
        cost: one of ``COSTS``.

    Returns:
        Cheapest first.
    """
    known = [
        (price, precision, candidate)
        for candidate in found
        if (price := cost.of(candidate)) is not None
        and (precision := candidate.average_precision) is not None
    ]
    best = -math.inf
    kept = []
    for _, precision, candidate in sorted(known, key=lambda entry: (entry[0], -entry[1])):
        if precision > best:
            best = precision
            kept.append(candidate)
    return kept


def section(found: Sequence[Candidate]) -> Section:
    """Table and fronts for a report."""
    on = {name: fronts(found, cost) for name, cost in COSTS.items()}
    numbered = [(f"{n}\N{NO-BREAK SPACE}{c.name}", c) for n, c in enumerate(found, 1)]
    accuracy = [[name, *_accuracy_cells(c.figures())] for name, c in numbered]
    costs = [
        [name, *_cost_cells(c.figures()), ", ".join(f for f in on if c in chain(*on[f])) or "–"]
        for name, c in numbered
    ]
    drawn = {name: _plot(found, kept, COSTS[name]) for name, kept in on.items() if kept}
    plots = [
        Plot(
            to_svg(figure),
            f"Accuracy over {name}; numbers as above, a line is a front.",
            wide=True,
        )
        for name, figure in drawn.items()
    ]
    text = (
        "A model is on a (Pareto) front if no other one is better in accuracy or cost (latency, or "
        "energy) without being worse in the other."
    )
    left_out = {c.name: c.results.accuracy.left_out if c.results.accuracy else "" for c in found}
    if len(set(left_out.values())) > 1:
        text += " They were not evaluated on the same classes, so that their AP differs for that:"
        text += "".join(f" {name}: {what or 'all classes.'}" for name, what in left_out.items())
    tables = [Table(ACCURACY, accuracy), Table(COST, costs)]
    if _measured_differently(found):
        text += (
            " They were run on different machines, or their power was read by different meters. "
            "Costs of different ones say nothing side by side: each has a front of its own."
        )
        tables.append(Table(MEASURED, [[name, c.machine, c.meter or None] for name, c in numbered]))
    return Section("Comparison", text, tables, plots)


def _measured_differently(found: Sequence[Candidate]) -> bool:
    meters = {candidate.meter for candidate in found if candidate.meter}
    return len({candidate.machine for candidate in found}) > 1 or len(meters) > 1


ACCURACY = (
    "",
    "AP",
    "AP50",
    "AP75",
    "AP small",
    "AP medium",
    "AP large",
    "images",
    "objects",
    "answered",
)
COST = (
    *("", "input", "backend", "precision", "threads", "ms p50", "ms p95", "ms p99", "frames/s"),
    *("J a frame", "on a front"),
)
MEASURED = ("", "machine", "power read by")
"""Heads of the tables: each fits a page."""


def _accuracy_cells(figures: CandidateFigures) -> list[Any]:
    return [
        *(figures.ap, figures.ap50, figures.ap75, figures.ap_small, figures.ap_medium),
        *(figures.ap_large, figures.images, figures.objects, figures.answered_share),
    ]


def _cost_cells(figures: CandidateFigures) -> list[Any]:
    return [
        *(str(figures.input_size), figures.backend, figures.precision, figures.threads),
        *(figures.latency_ms or (None, None, None)),
        *(figures.frames_per_second, figures.joules_per_frame),
    ]


def write_comparison(folder: Path, results: Sequence[Results]) -> list[Candidate]:
    """Write ``comparison.json`` and ``comparison.html``, and return what was compared.

    Raises:
        BagError: see ``candidates``.
        ReportError: a library for reports is missing; the JSON is written then.
        OSError: the folder cannot be written.
    """
    found = candidates(results)
    first = results[0]
    content = {
        "recording": first.recording.paths,
        "mode": first.mode,
        "candidates": [candidate.figures() for candidate in found],
        "fronts": {
            name: [c.name for c in chain(*fronts(found, cost))] for name, cost in COSTS.items()
        },
        "environment": _common([result.environment for result in results]),
    }
    with replacing(folder / "comparison.json") as path:
        path.write_text(json.dumps(to_plain(content), indent=1, allow_nan=False) + "\n")
    facts = {
        "Recording": ", ".join(first.recording.paths),
        "Mode": first.mode,
        "Machine": "; ".join(dict.fromkeys(machine_line(r.environment) for r in results)),
    }
    title = f"{len(found)} models on {Path(first.recording.paths[0]).name}"
    write_report(folder / "comparison.html", title, (), facts, [section(found)])
    return found


def _common(facts: Sequence[dict[str, str]]) -> dict[str, str]:
    """What is the same in all."""
    return {k: v for k, v in facts[0].items() if all(other.get(k) == v for other in facts)}


def _plot(found: Sequence[Candidate], kept: Sequence[Sequence[Candidate]], cost: Cost) -> Any:
    figure, axes = new_figure(7.0, 4.2)
    for number, candidate in enumerate(found):
        x, y = cost.of(candidate), candidate.average_precision
        if x is None or y is None:
            continue
        # Names would leave the axes, or lie upon each other: the table has them by number.
        axes.plot(x, y, "o", color=COLOURS[number % len(COLOURS)], markersize=15)
        centred = {"ha": "center", "va": "center_baseline", "fontsize": 9, "color": "white"}
        axes.annotate(str(number + 1), (x, y), **centred)
    for line in kept:
        points = [(cost.of(candidate), candidate.average_precision) for candidate in line]
        axes.plot(*zip(*points, strict=True), "-", color=COLOURS[-1], linewidth=1.2, zorder=0)
    axes.set_xlabel(cost.label)
    axes.set_ylabel("AP")
    axes.set_xlim(left=0)
    axes.margins(x=0.15, y=0.15)
    return figure

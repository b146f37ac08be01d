# SPDX-License-Identifier: Apache-2.0
"""Finished evaluations of one recording side by side: accuracy, latency and energy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compact_yolo_ros.evaluation.plots import COLOURS, new_figure, to_svg
from compact_yolo_ros.evaluation.report import Plot, Section, Table, write_report
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.files import replacing

ACCURACIES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
COSTS = {
    "latency": ("median milliseconds of a frame", "latency_ms"),
    "energy": ("joules of a frame", "joules"),
}
"""Axes of the two fronts, and the fields of ``Candidate`` they show."""


@dataclass(frozen=True)
class Candidate:
    """One finished evaluation.

    Attributes:
        name: unlike those beside it.
        results: as in its results.json.
    """

    name: str
    results: Mapping[str, Any]

    @property
    def accuracy(self) -> float | None:
        """AP; None without ground truth or reference."""
        return self._summary("AP")

    @property
    def latency_ms(self) -> float | None:
        """Median of the time from message to detections; None if no frame was answered."""
        total = self.results["speed"]["stages_ms"]["total"]
        return None if total is None else float(total["p50"])

    @property
    def joules(self) -> float | None:
        """Energy of a frame; None if the power could not be read."""
        value = self.results["power"]["joules_per_frame"]
        return None if value is None else float(value)

    @property
    def answered(self) -> float:
        """Share of the frames that were answered."""
        counts = [topic["frames"] for topic in self.results["topics"].values()]
        return sum(c["answered"] for c in counts) / max(1, sum(c["all"] for c in counts))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        model, speed = self.results["model"], self.results["speed"]
        return {
            "name": self.name,
            **{key: model[key] for key in ("backend", "device", "precision", "input_size")},
            "threads": model["threads"],
            "parameters": model["parameters"],
            **{name: self._summary(name) for name in ACCURACIES},
            "latency_ms": speed["stages_ms"]["total"],
            "age_ms": speed["age_ms"],
            "frames_per_second": speed["frames_per_second"],
            "answered": self.answered,
            "joules_per_frame": self.joules,
        }

    def _summary(self, name: str) -> float | None:
        accuracy = self.results["accuracy"]
        return None if accuracy is None else accuracy["summary"][name]


def candidates(results: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Name finished evaluations by what differs between them.

    Args:
        results: as in results.json, at least two.

    Raises:
        BagError: they are of other frames or labels, or two are the same.
    """
    if len(results) < 2:
        raise BagError("a comparison needs at least two evaluations")
    for what, value in _SAME.items():
        values = [value(result) for result in results]
        if any(other != values[0] for other in values):
            raise BagError(f"the evaluations differ in their {what}: compare what was run alike")
    models = [result["model"] for result in results]
    parts = [
        [
            _name(model, models),
            *(_text(model[key]) for key in ("input_size", "backend", "precision")),
        ]
        for model in models
    ]
    parts = [
        [*row, f"{model['threads']} threads"] for row, model in zip(parts, models, strict=True)
    ]
    differing = [n for n in range(len(parts[0])) if n == 0 or len({row[n] for row in parts}) > 1]
    names = [", ".join(row[n] for n in differing) for row in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BagError(f"'{twice}' is compared with itself: two of the evaluations are alike")
    return [Candidate(name, result) for name, result in zip(names, results, strict=True)]


def _name(model: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """The model's name; what the user called it where another one has the same."""
    given = {other["given"] for other in models if other["name"] == model["name"]}
    return str(model["name"] if len(given) == 1 else model["given"])


_SAME = {
    "recording": lambda r: (r["recording"]["paths"], list(r["topics"])),
    "part of the recording": lambda r: (r["recording"]["start_ns"], r["recording"]["end_ns"]),
    "mode": lambda r: (r["mode"], r["fixed_latency_s"]),
    "score threshold": lambda r: r["threshold"],
    "labels": lambda r: (
        r["accuracy"]
        and (
            r["accuracy"]["against"],
            {
                topic: [found[key] for key in ("labels_from", "labels", "tolerance_ms")]
                for topic, found in r["accuracy"]["matching"].items()
            },
        )
    ),
}


def front(found: Sequence[Candidate], cost: str) -> list[Candidate]:
    """Those that nobody beats: none is as accurate and cheaper, or as cheap and more accurate.

    Args:
        found: all; those whose accuracy or cost is not known are left out.
        cost: field of ``Candidate``.

    Returns:
        The Pareto front, cheapest first.
    """
    known = [c for c in found if c.accuracy is not None and getattr(c, cost) is not None]
    best = -np.inf
    kept = []
    for candidate in sorted(known, key=lambda c: (getattr(c, cost), -_accuracy(c))):
        if _accuracy(candidate) > best:
            best = _accuracy(candidate)
            kept.append(candidate)
    return kept


def section(found: Sequence[Candidate]) -> Section:
    """Table and fronts for a report."""
    head = ["", "input", "backend", "precision", "threads", *ACCURACIES[:3]]
    head += ["ms p50", "ms p95", "ms p99", "frames/s", "answered", "J a frame", "on a front"]
    rows = []
    fronts = {cost: front(found, field) for cost, (_, field) in COSTS.items()}
    for candidate in found:
        values = candidate.to_dict()
        milliseconds = values["latency_ms"] or dict.fromkeys(("p50", "p95", "p99"))
        on = [cost for cost, kept in fronts.items() if candidate in kept]
        numbers = [
            *(values[name] for name in ACCURACIES[:3]),
            *milliseconds.values(),
            values["frames_per_second"],
            values["answered"],
            values["joules_per_frame"],
        ]
        cells = [np.nan if number is None else number for number in numbers]
        size = _text(values["input_size"])
        way = [size, values["backend"], values["precision"], values["threads"]]
        rows.append([candidate.name, *way, *cells, ", ".join(on) or "–"])
    figures = [
        Plot(to_svg(_plot(found, kept, cost)), f"Accuracy over {cost}; the line is the front.")
        for cost, kept in fronts.items()
        if kept
    ]
    text = (
        "On a front is what nobody beats: nothing is more accurate and at most as slow (or as "
        "hungry), nor faster (or more frugal) and at least as accurate."
    )
    left_out = {c.name: (c.results["accuracy"] or {}).get("left_out", "") for c in found}
    if len(set(left_out.values())) > 1:
        text += " They were not evaluated on the same classes, so that their AP differs for that:"
        text += "".join(f" {name}: {what or 'all classes.'}" for name, what in left_out.items())
    return Section("Comparison", text, [Table(head, rows)], figures)


def write_comparison(folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Write ``comparison.json`` and ``comparison.html``, and return what was compared.

    Raises:
        BagError: see ``candidates``.
        ReportError: a library for reports is missing; the JSON is written then.
        OSError: the folder cannot be written.
    """
    found = candidates(results)
    content = {
        "recording": results[0]["recording"]["paths"],
        "mode": results[0]["mode"],
        "candidates": [candidate.to_dict() for candidate in found],
        "fronts": {c: [k.name for k in front(found, field)] for c, (_, field) in COSTS.items()},
        "environment": results[0]["environment"],
    }
    with replacing(folder / "comparison.json") as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    machine = results[0]["environment"]
    facts = {
        "Recording": ", ".join(content["recording"]),
        "Mode": content["mode"],
        "Machine": f"{machine['processor']}, {machine['cores']} cores, {machine['system']}",
    }
    title = f"{len(found)} ways on {Path(content['recording'][0]).name}"
    write_report(folder / "comparison.html", title, (), facts, [section(found)])
    return found


def _plot(found: Sequence[Candidate], kept: Sequence[Candidate], cost: str) -> Any:
    label, field = COSTS[cost]
    figure, axes = new_figure(7.0, 4.2)
    for number, candidate in enumerate(found):
        x, y = getattr(candidate, field), candidate.accuracy
        if x is None or y is None:
            continue
        axes.plot(x, y, "o", color=COLOURS[number % len(COLOURS)], markersize=8)
        axes.annotate(candidate.name, (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8)
    points = [(getattr(c, field), _accuracy(c)) for c in kept]
    axes.plot(*zip(*points, strict=True), "-", color=COLOURS[-1], linewidth=1.2, zorder=0)
    axes.set_xlabel(label)
    axes.set_ylabel("AP")
    axes.set_xlim(left=0)
    axes.margins(x=0.15, y=0.15)
    return figure


def _accuracy(candidate: Candidate) -> float:
    assert candidate.accuracy is not None
    return candidate.accuracy


def _text(value: Any) -> str:
    """An input size as height x width, anything else as it is."""
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)

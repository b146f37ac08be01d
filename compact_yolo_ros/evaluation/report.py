# SPDX-License-Identifier: Apache-2.0
"""A report: one HTML file without links to others, light and dark, also for phones."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.evaluation.example_images import COLOURS, ExampleImage, draw
from compact_yolo_ros.evaluation.result import ClassFigures, Evaluation, Summary
from compact_yolo_ros.support.files import write_text
from compact_yolo_ros.support.optional_modules import lacking

_LARGEST_MATRIX = 20
"""With more classes the confusion matrix is a list of the most frequent mix-ups."""


class ReportError(RuntimeError):
    """A library is missing; the message says what to install."""


@dataclass(frozen=True)
class Table:
    """Rows of text or numbers, None where there is none; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Plot:
    """A plot: an ``<svg>`` element (``plots.to_svg``) and what it shows; a wide one has a row."""

    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A further part of the page.

    Attributes:
        title: heading.
        text: a paragraph, plain text.
        tables: below it.
        plots: below them, side by side where there is room.
        html: below them, put in as it is.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    html: str = ""


@dataclass(frozen=True)
class ShownEvaluation:
    """One evaluation to show, for example of one model at one input size.

    Attributes:
        name: what was evaluated.
        evaluation: the figures.
        worst: images to show; see ``Evaluation.worst``.
        best: see ``Evaluation.best``.
    """

    name: str
    evaluation: Evaluation
    worst: Sequence[ExampleImage] = ()
    best: Sequence[ExampleImage] = ()


def check_libraries() -> None:
    """Raise ReportError if a library for reports is missing or broken; call it before long work."""
    if needed := lacking("jinja2", "matplotlib.figure"):
        raise ReportError(f"a report needs {needed}")


def write_report(
    path: Path,
    title: str,
    evaluations: Sequence[ShownEvaluation] = (),
    facts: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> None:
    """Write the page; a reader sees the old file or the new one, never a part.

    Args:
        path: HTML file.
        title: heading.
        evaluations: side by side in the summary; the first one is open below it.
        facts: about model, data and environment, shown as they are.
        sections: further parts, below the evaluations.

    Raises:
        ReportError: a library is missing.
        OSError: the file cannot be written.
    """
    check_libraries()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["number"] = _number
    source = files("compact_yolo_ros.evaluation").joinpath("report.html.j2").read_text("utf-8")
    page = environment.from_string(source).render(
        title=title,
        summary=_summary(evaluations),
        results=[_view(shown) for shown in evaluations],
        facts=facts or {},
        sections=sections,
        legend=COLOURS,
    )
    write_text(path, page)


def _summary(evaluations: Sequence[ShownEvaluation]) -> Table | None:
    """A row for each evaluation; a single one is in the tiles."""
    if len(evaluations) < 2:
        return None
    rows = [[shown.name, *shown.evaluation.summary().named().values()] for shown in evaluations]
    return Table(["", *Summary.names()], rows)


def _view(shown: ShownEvaluation) -> dict[str, Any]:
    """What the template shows of one result."""
    from compact_yolo_ros.evaluation import plots

    evaluation = shown.evaluation
    drawn: dict[str, Callable[[Evaluation], Any]] = {
        "Precision over recall; the area under a line is AP50. Dotted: mean at an IoU of 0.75.": (
            plots.precision_recall
        ),
        "AP by the size of objects. Bars: mean.": plots.by_size,
        "AP by the overlap a hit needs: how exact the boxes are.": plots.by_overlap,
        "F1, the balance of precision and recall, by score threshold.": (
            lambda e: plots.score_curve(e, "f1")
        ),
        "Precision by score threshold: the part of the detections that is right.": (
            lambda e: plots.score_curve(e, "precision")
        ),
        "Recall by score threshold: the part of the objects that is found.": (
            lambda e: plots.score_curve(e, "recall")
        ),
    }
    return {
        "name": shown.name,
        "evaluation": evaluation,
        "objects": int(evaluation.objects[:, 0].sum()),
        "summary": evaluation.summary().named(),
        "classes": _class_tables(evaluation),
        "legend": plots.legend(evaluation),
        "plots": [Plot(plots.to_svg(plot(evaluation)), caption) for caption, plot in drawn.items()],
        "confusion": _confusion(evaluation) if _is_small(evaluation) else None,
        "mixups": None if _is_small(evaluation) else _mixups(evaluation),
        "examples": [
            (heading, [_example(example, evaluation) for example in examples])
            for heading, examples in (("Worst images", shown.worst), ("Best images", shown.best))
            if examples
        ],
    }


def _class_tables(evaluation: Evaluation) -> list[Table]:
    """Average precision, and what is reached at each class's best threshold."""
    named = {
        name: evaluation.of_class(label).named() for label, name in enumerate(evaluation.classes)
    }
    names = ClassFigures.names()
    split = names.index("best threshold")
    return [
        Table(
            ["class", *part],
            [[name, *(figures[column] for column in part)] for name, figures in named.items()],
        )
        for part in (names[:split], ["objects", *names[split:]])
    ]


def _is_small(evaluation: Evaluation) -> bool:
    return len(evaluation.classes) <= _LARGEST_MATRIX


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """Counts with the part of their row, by which they are shaded."""
    counts = evaluation.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [*evaluation.classes, "background"]
    return {
        "names": names,
        "rows": [
            (name, list(zip(row, part, strict=True)))
            for name, row, part in zip(names, counts.tolist(), share.tolist(), strict=True)
        ],
    }


def _mixups(evaluation: Evaluation, most: int = 20) -> Table:
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    names = [*evaluation.classes, "background"]
    places = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(places, counts.shape), strict=True)
    rows = [[names[i], names[j], int(counts[i, j])] for i, j in pairs if counts[i, j]]
    return Table(["true class", "detected as", "times"], rows)


def _example(example: ExampleImage, evaluation: Evaluation) -> dict[str, str]:
    drawn = draw(example, evaluation.classes, evaluation.score_threshold, evaluation.iou_threshold)
    return {"caption": example.caption or example.truth.name, "data": _jpeg(drawn)}


def _jpeg(image: NDArray[np.uint8]) -> str:
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _number(value: Any) -> Any:
    """A cell: fractions to three places, None and nan as a dash, all else as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if not isinstance(value, float):
        return value
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"

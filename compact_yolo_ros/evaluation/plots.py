# SPDX-License-Identifier: Apache-2.0
"""Plots of an evaluation as SVG that takes on the colours of the page around it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from compact_yolo_ros.evaluation.average_precision import RECALLS, SCORES
from compact_yolo_ros.evaluation.result import AREAS, IOUS, Evaluation

COLOURS = (
    *("#3a86c8", "#e38b1c", "#2fa37c", "#c65aa9", "#d9534f"),
    *("#8a78d6", "#8f9a2c", "#27a9ba", "#a8754f", "#7f8c99"),
)
"""For classes and the like; clear on white and on black."""
_INK = "#010203"
"""Stands for the colour of the page's text; nothing else is drawn in it."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.titlesize": 10.0,
    "figure.facecolor": "none",
    "grid.alpha": 0.15,
    "lines.linewidth": 1.6,
    **dict.fromkeys(
        ("axes.edgecolor", "axes.labelcolor", "grid.color"),
        _INK,
    ),
    **dict.fromkeys(("text.color", "xtick.color", "ytick.color"), _INK),
}
"""Of pages: what is drawn besides curves has the colour of the text."""


def new_figure(width: float = 4.4, height: float = 3.2) -> tuple[Any, Any]:
    """Return a matplotlib figure (width and height in inches) and its axes, in the page's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained")
        return figure, figure.add_subplot()


def to_svg(figure: Any) -> str:
    """Return a matplotlib figure as an ``<svg>`` element; its text has the page's colour."""
    import matplotlib

    buffer = io.StringIO()
    # The salt keeps the ids of two figures in one page apart; the same figure gets the same ones.
    salt = f"{figure.axes[0].get_xlabel()} {figure.axes[0].get_ylabel()}"
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


def add_legend(axes: Any) -> None:
    """Name the lines of a plot in the colour of the page's text."""
    axes.legend(frameon=False, labelcolor=_INK)


def literal(name: str) -> str:
    """A name as matplotlib draws it letter by letter: neither a formula nor left out of legends."""
    return f"{' ' * name.startswith('_')}{name}".replace("$", r"\$")


def legend(evaluation: Evaluation) -> dict[str, str]:
    """Names and colours of the classes in the plots; with many classes all are grey."""
    if len(evaluation.classes) > len(COLOURS):
        return {"classes": COLOURS[-1]}
    return dict(zip(evaluation.classes, COLOURS, strict=False))


def precision_recall(evaluation: Evaluation) -> Any:
    """Precision over recall of every class at IoU 0.5, and the mean at 0.5 and 0.75."""
    figure, axes = new_figure()
    table = evaluation.precision_at[:, 0]
    _class_lines(axes, evaluation, RECALLS, table[:, 0])
    known = ~np.isnan(table[:, 0, 0])
    if known.any():
        for place, style in ((0, "-"), (5, ":")):
            mean = table[known, place].mean(0)
            axes.plot(RECALLS, mean, style, color=_INK, linewidth=2.2)
    _unit_axes(axes, "recall", "precision")
    return figure


def score_curve(evaluation: Evaluation, what: str) -> Any:
    """Over the score threshold: precision, recall or F1 of every class, and their mean.

    Args:
        evaluation: what to plot.
        what: "precision", "recall" or "f1".
    """
    figure, axes = new_figure()
    table = np.array([getattr(curve, f"{what}_at") for curve in evaluation.curves])
    _class_lines(axes, evaluation, SCORES, table)
    known = np.array([not np.isnan(curve.f1_at).all() for curve in evaluation.curves])
    if known.any():
        # A class without a detection left has no precision: the mean is over the others.
        values = table[known]
        count = np.count_nonzero(~np.isnan(values), 0)
        empty = np.full(len(SCORES), np.nan)
        mean = np.divide(np.nansum(values, 0), count, out=empty, where=count > 0)
        axes.plot(SCORES, mean, color=_INK, linewidth=2.2)
    threshold = evaluation.best_threshold
    if what == "f1" and not np.isnan(threshold):
        axes.axvline(threshold, color=_INK, linestyle="--", linewidth=1, alpha=0.6)
        # The text goes where there is room.
        side = {"ha": "left", "x": threshold + 0.015}
        if threshold > 0.6:
            side = {"ha": "right", "x": threshold - 0.015}
        axes.text(y=0.02, s=f"best mean F1 at {threshold:.2f}", fontsize=9, color=_INK, **side)
    _unit_axes(axes, "score threshold", "F1" if what == "f1" else what)
    return figure


def by_overlap(evaluation: Evaluation) -> Any:
    """AP of every class over the IoU that a hit needs, and the mean."""
    figure, axes = new_figure()
    table = evaluation.precision_at[:, 0].mean(2)
    _class_lines(axes, evaluation, IOUS, table)
    known = ~np.isnan(table[:, 0])
    if known.any():
        axes.plot(IOUS, table[known].mean(0), color=_INK, linewidth=2.2)
    _unit_axes(axes, "IoU needed for a hit", "AP")
    axes.set_xlim(IOUS[0], IOUS[-1])
    return figure


def by_size(evaluation: Evaluation) -> Any:
    """AP of small, medium and large objects: the mean as bars, every class as a dot."""
    figure, axes = new_figure()
    names = list(AREAS)[1:]
    means = [evaluation.average_precision(area=name) for name in names]
    axes.bar(range(3), np.nan_to_num(means), 0.62, color=_INK, alpha=0.16)
    for place, mean in enumerate(means):
        if not np.isnan(mean):
            axes.plot((place - 0.31, place + 0.31), (mean, mean), color=_INK, linewidth=2.2)
    count = len(evaluation.classes)
    for label in range(count):
        values = [evaluation.average_precision(label, area=area) for area in names]
        if count > len(COLOURS):
            axes.plot(range(3), values, "o", color=COLOURS[-1], markersize=3, alpha=0.5)
        else:
            places = np.arange(3) + (label - (count - 1) / 2) * 0.5 / count
            axes.plot(places, values, "o", color=COLOURS[label], markersize=6)
    objects = evaluation.objects[:, 1:].sum(0)
    axes.set_xticks(
        range(3),
        [
            f"{name} ({limits})\n{number} objects"
            for name, limits, number in zip(
                names, ("to 32²", "to 96²", "above"), objects, strict=True
            )
        ],
    )
    axes.grid(False, axis="x")
    axes.set_xlabel("area in square pixels of the image")
    axes.set_ylabel("AP")
    axes.set_ylim(0, 1.02)
    return figure


def _class_lines(axes: Any, evaluation: Evaluation, x: Any, table: Any) -> None:
    many = len(evaluation.classes) > len(COLOURS)
    for label, values in enumerate(table):
        if np.isnan(values).all() or not evaluation.objects[label, 0]:
            continue
        if many:
            axes.plot(x, values, color=COLOURS[-1], linewidth=0.8, alpha=0.5)
        else:
            axes.plot(x, values, color=COLOURS[label])


def _unit_axes(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)

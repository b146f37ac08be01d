# SPDX-License-Identifier: Apache-2.0
"""The files of a study: results.json, results.md and plot.svg, renewed after every training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compact_yolo_ros.evaluation.plots import STYLE, new_figure
from compact_yolo_ros.support.files import write_text
from compact_yolo_ros.support.markdown import markdown_table
from compact_yolo_ros.support.plain_values import to_plain
from training.studies.member import Result

RESULTS, PAGE, PLOT = "results.json", "results.md", "plot.svg"
INK = "#7f8c99"
"""Colour of lines and texts, clear on white and on black."""


@dataclass(frozen=True)
class Report:
    """What a study shows of its results.

    Attributes:
        title: of the page.
        head, rows: of the table.
        conclusion: sentences that follow from the results, one a line.
        plot: draws on axes of matplotlib; None: nothing to draw yet.
        extra: plain values for results.json alone.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    conclusion: Sequence[str] = ()
    plot: Callable[[Any], None] | None = None
    extra: Mapping[str, Any] | None = None


def write_report(
    folder: Path, report: Report, results: Sequence[Result], facts: Mapping[str, Any]
) -> None:
    """Write the files of a study; a reader sees old ones or new ones, never a part.

    Args:
        folder: of the study.
        report: of the results.
        results: of the trainings that are finished.
        facts: how they were made: data, recipe, machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"facts": facts, "results": [asdict(result) for result in results]}
    content |= {"extra": report.extra} if report.extra else {}
    write_text(folder / RESULTS, json.dumps(to_plain(content), indent=1, allow_nan=False) + "\n")
    if report.plot:
        write_text(folder / PLOT, drawn(report.plot))
    write_text(folder / PAGE, page(report, facts))


def page(report: Report, facts: Mapping[str, Any]) -> str:
    """Return a study's page in Markdown."""
    made = [f"- {name}: {value}" for name, value in facts.items() if isinstance(value, str | int)]
    parts = [f"# {report.title}", "\n".join(made), markdown_table(report.head, report.rows)]
    parts += [f"![{report.title}]({PLOT})"] if report.plot else []
    return "\n\n".join([*parts, *report.conclusion]) + "\n"


def drawn(plot: Callable[[Any], None]) -> str:
    """Return a plot as SVG with a grey that can be read on white and on black."""
    import io

    import matplotlib

    figure, axes = new_figure(6.4, 3.8)
    # for legends, notes and further axes, too
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "study"}):
        plot(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().replace("#010203", INK)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"

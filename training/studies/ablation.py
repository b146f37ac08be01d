# SPDX-License-Identifier: Apache-2.0
"""What each part of YOLO-ReT gives: the rows of its tables 2 to 4, trained alike.

    python -m training.studies.ablation --data voc/data.yaml --out runs/ablation --rows \
        yolo_ret_table3_none yolo_ret_table3_panet --backbone b.pt

Backbones complete or truncated, with and without RFCR and its shortcut, with each neck: parameters,
multiply-accumulates, time on this machine and AP50, beside what was published.
``training.studies.configurations`` lists the rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.detectors.variant import Variant
from training.loop.trainer import Trainer
from training.studies.beginning import named
from training.studies.command import Command
from training.studies.configurations import ROWS
from training.studies.latency import kept_ratios
from training.studies.member import Member, Result, Row, rows_of
from training.studies.report import Report
from training.studies.study import Effort, Study
from training.weights.backbone_file import BackboneWeights, read_backbone
from training.weights.starting import start_backbone

BEGIN = "yolo_ret_"
QUICK_ROWS = tuple(
    f"yolo_ret_table3_{name}" for name in ("none", "none_rfcr", "panet", "panet_rfcr")
)
PAPER = Effort("yolo_ret_m075_paper")
HEAD = ("row", "parameters", "GMAC", "time", "AP50 %", "AP %", "published AP50 %")
REMARKS = (
    "`time` is that of the deployed network on one thread by the first row's.",
    "The published AP50 is of VOC 2007 at 320 pixels, after 250 epochs on 16,551 images: what can "
    "be compared is the sign of a difference. Of the single rows only this is known here, from a "
    "summary of the paper: RFCR gains most without another neck, and still with BiFPN x3; "
    "truncated backbones beat narrower complete ones of the same speed (x0.75 against x0.5 by 2.64 "
    "points, x1.4 against x1.0 by 0.27).",
)
WHOLE = 99
"""More blocks than a backbone has: in the first phase, one with weights from a file is frozen."""
STEPS = ("panet", "rfcr", "truncated", "shortcut")
"""Of table 4, each with what the one before has."""


def chosen(begins: Sequence[str]) -> dict[str, Variant]:
    """Return the rows whose names begin so.

    Raises:
        ValueError: there are none.
    """
    known = [name for name in ROWS if name.startswith(BEGIN)]
    found: dict[str, Variant] = {}
    for begin in begins:
        exact = [begin] if begin in known else [name for name in known if name.startswith(begin)]
        if not exact:
            raise ValueError(f"--rows {begin}: no row begins so; one is {known[0]}")
        found |= {name: ROWS[name] for name in exact}
    return found


def start(trainer: Trainer, files: Mapping[Path, BackboneWeights]) -> None:
    """Give a trainer's backbone the weights of the file that is of it.

    Raises:
        ValueError: none is; the sentence says why the last is not.
    """
    why = ""
    for path, weights in files.items():
        try:
            start_backbone(trainer, weights, path)
            return
        except ValueError as error:
            why = str(error)
    raise ValueError(f"no --backbone is that of {trainer.recipe.detector}: {why}")


def members(rows: Mapping[str, Variant], paths: Sequence[Path]) -> Iterator[Member]:
    """Yield a training for each row.

    Raises:
        ValueError: a file of weights cannot be read.
    """
    files = {path: read_backbone(path) for path in paths}
    origin = ", ".join(map(named, paths))
    begin = partial(start, files=files) if files else None
    changes = (f"phases.0.frozen_blocks={WHOLE if files else 0}",)
    for name, detector in rows.items():
        yield Member(name, detector, changes, begin, origin)


def report(results: Sequence[Result], options: argparse.Namespace) -> Report:
    """Return the report of the finished trainings; ``options.ratios`` has their times."""
    rows = rows_of(results)
    return Report(
        "Ablation of YOLO-ReT",
        HEAD,
        [_cells(row, options.ratios) for row in rows],
        [*differences(rows), *REMARKS],
        partial(_plot, rows, options.ratios),
        {"time by the first row's": options.ratios},
    )


def differences(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each two rows that one part distinguishes, in points of AP50."""
    named = {row.first.name: row for row in rows}
    sentences = []
    for name, row in named.items():
        for other, part in _simpler(name):
            # While a study goes on, one may have more seeds: their means would be of other ones.
            if other in named and row.seeds == named[other].seeds:
                points = 100 * (row.ap50 - named[other].ap50)
                sentences.append(f"- {part} ({other} to {name}): {points:+.1f} points.")
    return ["\n".join(sentences)] if sentences else []


def _simpler(name: str) -> Iterator[tuple[str, str]]:
    """Yield the rows that a row is compared with, each with what distinguishes the two."""
    begin, _, end = name.rpartition("_")
    table = name.removeprefix(BEGIN).partition("_")[0]
    if table == "table3" and end == "rfcr":
        yield begin, "RFCR"
    elif table == "table2" and end == "truncated":
        yield f"{begin}_complete", "Truncation"
    elif table == "table4" and end in STEPS[1:]:
        yield f"{begin}_{STEPS[STEPS.index(end) - 1]}", {"rfcr": "RFCR", "truncated": "Truncation",
                                                        "shortcut": "Shortcut"}[end]  # fmt: skip


def _cells(row: Row, times: Mapping[str, float]) -> tuple[str, ...]:
    first = row.first
    return (
        first.name.removeprefix(BEGIN),
        f"{first.parameters:,}",
        f"{first.gmac:.3f}",
        f"{times[first.name]:.2f}",
        row.ap50_text,
        f"{100 * row.figures['AP']:.1f}",
        _published(first.detector),
    )


def _published(detector: str) -> str:
    """Return what is published of a detector of the registry; one with options has no figure."""
    variant = Variant.parse(detector)
    found = variant.spec.published
    return f"{found.ap50[320]}" if found and not variant.options else "-"


def _plot(rows: Sequence[Row], times: Mapping[str, float], axes: Any) -> None:
    for row in rows:
        name = row.first.name.removeprefix(BEGIN)
        at = (times[row.first.name], 100 * row.ap50)
        colour = "C1" if "rfcr" in row.first.name or "shortcut" in row.first.name else "C0"
        axes.errorbar(*at, 50 * row.spread, fmt="o", color=colour)
        axes.annotate(name, at, (5, 4), textcoords="offset points", fontsize=8)
    axes.margins(0.25)
    axes.set(xlabel="time on this machine by the first row's (orange: RFCR)", ylabel="AP50 %")


def work(study: Study, options: argparse.Namespace) -> None:
    """Time the rows, then train them."""
    rows = chosen(options.rows or (QUICK_ROWS if options.quick else (BEGIN,)))
    trainings = list(members(rows, options.backbone))
    recipes = {member.name: study.recipe(member, study.seeds[0]) for member in trainings}
    if not options.plan:
        size = next(iter(recipes.values())).evaluation.size
        detectors = {name: recipe.detector for name, recipe in recipes.items()}
        options.ratios = kept_ratios(study.out, detectors, len(study.classes), size)
    study.run(trainings, options.plan)


def _more(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--rows",
        nargs="+",
        action="extend",
        default=[],
        help="begins of their names [all; four with --quick]",
    )
    add(
        "--backbone",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="weights to start from: a row takes the file that is of its backbone",
    )


COMMAND = Command(
    "ablation", "Show what each part of YOLO-ReT gives.", report, work, PAPER, more=_more
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())

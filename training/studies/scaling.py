# SPDX-License-Identifier: Apache-2.0
"""Scale YOLOv4-tiny to budgets of operations, and train what comes out (Scaled-YOLOv4).

    python -m training.studies.scaling --gflops 1.5 3.5 7
    python -m training.studies.scaling --gflops 1.5 --data voc/data.yaml --out runs/scaling

The first prints the largest detector for each budget, by the way it grows; the second trains these
detectors too. Each is a text that ``training.train --detector`` takes. ``compound`` has the rules,
``stage_costs`` what CSP and OSA stages cost. Anchors stay as they are in pixels, whatever the size
of the input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from compact_yolo_ros.support.arguments import positive, whole_number
from compact_yolo_ros.support.terminal import open_console, print_table
from training.detectors.variant import Variant
from training.detectors.yolov4_tiny import YoloV4TinyConfig
from training.studies.command import QUICK, Command
from training.studies.compound import DIRECTIONS, SIZE, Scaled, fit
from training.studies.member import Member, Result, Row, rows_of
from training.studies.report import Report
from training.studies.study import Effort, Study

NAME = "yolov4_tiny"
BUDGETS, QUICK_BUDGETS = (1.5, 3.5, 7.0), (1.1,)
SMALLEST = 160
"""Side in pixels of the smallest input that a detector is evaluated at."""
PAPER = Effort("yolov4_tiny_paper")
COLUMNS = "budget", "grows", "input", "GFLOPs", "M values accessed", "detector"
HEAD = ("budget", "grows", "input", "parameters", "GFLOPs", "AP50 %", "AP %")
REMARK = (
    "Each is trained and measured at its own input. GFLOPs are of one image with 80 classes, two "
    "for a multiply-accumulate."
)


def largest(
    gigaflops: Sequence[float], size: int = SIZE
) -> Iterator[tuple[float, str, Scaled, Variant]]:
    """Yield the largest detector within each budget, for each way to grow.

    Args:
        gigaflops: budgets in 10^9 FLOPs for one image.
        size: side in pixels of the input that YOLOv4-tiny starts from.

    Yields:
        Budget, way, what was found, and it as a detector.

    Raises:
        ValueError: no scale fits one of the budgets.
    """
    for budget in gigaflops:
        for way, direction in DIRECTIONS.items():
            found = fit(YoloV4TinyConfig(), size, direction, round(budget * 1e9))
            yield budget, way, found, Variant(NAME, found.config)


def table(gigaflops: Sequence[float], size: int = SIZE) -> list[tuple[str, ...]]:
    """Return cells of COLUMNS for each budget and way to grow; raises as ``largest``."""
    return [
        (
            f"{budget:g}",
            way,
            f"{found.size}x{found.size}",
            f"{found.cost.flops / 1e9:.2f}",
            f"{found.cost.memory_access / 1e6:.1f}",
            str(detector),
        )
        for budget, way, found, detector in largest(gigaflops, size)
    ]


def members(gigaflops: Sequence[float], size: int = SIZE) -> Iterator[Member]:
    """Yield a training for each budget and way to grow.

    Raises:
        ValueError: no scale fits a budget, or only one with an input below SMALLEST.
    """
    for budget, way, found, detector in largest(gigaflops, size):
        if found.size < SMALLEST:
            raise ValueError(
                f"--gflops {budget:g}: {way}, the input would be {found.size} pixels, and "
                f"{SMALLEST} are the fewest: give a larger budget"
            )
        changes = f"phases.0.sizes={found.size}", f"evaluation.size={found.size}"
        facts = {"budget": budget, "way": way, "size": found.size, "flops": found.cost.flops}
        yield Member(f"{budget:g}_{way.replace(' ', '_')}", detector, changes, facts=facts)


def report(results: Sequence[Result], _: argparse.Namespace) -> Report:
    """Return the report of the finished trainings."""
    rows = rows_of(results)
    best: dict[float, Row] = {}
    for row in sorted(rows, key=lambda row: row.ap50):
        best[row.first.facts["budget"]] = row
    found = [
        f"- Within {budget:g} GFLOPs, AP50 is highest where this grows: {row.first.facts['way']} "
        f"({row.ap50_text} %): `{row.first.detector}` at {row.first.facts['size']} pixels."
        for budget, row in sorted(best.items())
    ]
    return Report(
        "YOLOv4-tiny, scaled",
        HEAD,
        [_cells(row) for row in rows],
        ["\n".join(found), REMARK],
        partial(_plot, rows),
    )


def _cells(row: Row) -> tuple[str, ...]:
    facts = row.first.facts
    return (
        f"{facts['budget']:g}",
        facts["way"],
        str(facts["size"]),
        f"{row.first.parameters:,}",
        f"{facts['flops'] / 1e9:.2f}",
        row.ap50_text,
        f"{100 * row.figures['AP']:.1f}",
    )


def _plot(rows: Sequence[Row], axes: Any) -> None:
    for way in DIRECTIONS:
        own = [row for row in rows if row.first.facts["way"] == way]
        at = [row.first.facts["flops"] / 1e9 for row in own]
        axes.plot(at, [100 * row.ap50 for row in own], "o-", label=way)
    axes.set(xlabel="GFLOPs", ylabel="AP50 %")
    axes.legend(frameon=False)


def work(study: Study, options: argparse.Namespace) -> None:
    """Train all detectors."""
    budgets = options.gflops or (QUICK_BUDGETS if options.quick else BUDGETS)
    study.run(list(members(budgets, options.size)), options.plan)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gflops",
        type=positive,
        nargs="+",
        default=[],
        help="budgets in 10^9 FLOPs for one image, two for a multiply-accumulate",
    )
    parser.add_argument(
        "--size", type=whole_number(32), default=SIZE, help="side of the base's input in pixels"
    )


COMMAND = Command(
    "scaling", "Scale YOLOv4-tiny to budgets of operations.", report, work, PAPER, QUICK, _more
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code. Without ``--data`` only the table is printed."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--data" in given or "-h" in given or "--help" in given:
        return COMMAND.main(arguments)
    parser = argparse.ArgumentParser(prog="training.studies.scaling", description=COMMAND.summary)
    _more(parser)
    options = parser.parse_args(arguments)
    try:
        rows = table(options.gflops or BUDGETS, options.size)
    except ValueError as error:
        print(f"training.studies.scaling: {error}", file=sys.stderr)
        return 1
    print_table(open_console(), COLUMNS, rows, "YOLOv4-tiny, scaled")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Scale YOLOv4-tiny to budgets of operations, and train what comes out (Scaled-YOLOv4).

    python -m training.studies.scaling --gflops 1.5 3.5 7
    python -m training.studies.scaling --gflops 1.5 --data voc/data.yaml --out runs/scaling
    python -m training.studies.scaling --detector '{name: yolov4_tiny, width: 0.5}' --size 160 ...

The first prints the largest detector for each budget, by the way it grows; the second trains these
detectors too. Each is a text that ``training.train --detector`` takes. ``compound`` has the rules,
``stage_costs`` what CSP and OSA stages cost. Anchors stay as they are in pixels, whatever the size
of the input. Depth is a whole number of blocks: it cannot shrink below that of the base.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from compact_yolo_ros.support.arguments import positive, whole_number
from compact_yolo_ros.support.terminal import open_console, print_table
from training.detectors.variant import Variant
from training.detectors.yolov4_tiny import YoloV4TinyConfig
from training.studies.command import QUICK, Command
from training.studies.compound import DIRECTIONS, SIZE, Scaled, fit
from training.studies.latency import kept_ratios
from training.studies.member import Member, Result, Row, rows_of
from training.studies.report import Report
from training.studies.study import Effort, Study

NAME = "yolov4_tiny"
BUDGETS = (1.5, 3.5, 7.0)
QUICK_BASE, QUICK_SIZE, QUICK_BUDGETS = "{name: yolov4_tiny, width: 0.25}", 160, (0.19,)
SMALLEST = 160
"""Side in pixels of the smallest input that a detector is evaluated at."""
PAPER = Effort("yolov4_tiny_paper")
COLUMNS = "budget", "grows", "input", "GFLOPs", "M values accessed", "detector"
HEAD = ("budget", "grows", "input", "parameters", "GMAC", "time", "AP50 %", "AP %")
REMARK = (
    "Each is trained and measured at its own input. Budgets are GFLOPs of one image with 80 "
    "classes, two for a multiply-accumulate. `time` is that of the deployed network on one thread "
    "by the first row's."
)


def base_of(text: str) -> YoloV4TinyConfig:
    """Return the configuration that is scaled; raises ValueError if it is no YOLOv4-tiny."""
    config = Variant.parse(text).config
    if not isinstance(config, YoloV4TinyConfig):
        raise ValueError(f"--detector {text}: only a yolov4_tiny can be scaled")
    return config


def largest(
    gigaflops: Sequence[float], base: YoloV4TinyConfig, size: int = SIZE
) -> Iterator[tuple[float, str, Scaled, Variant]]:
    """Yield the largest detector within each budget, for each way to grow that reaches it.

    Args:
        gigaflops: budgets in 10^9 FLOPs for one image.
        base: the configuration that grows, or shrinks.
        size: side in pixels of its input.

    Yields:
        Budget, way, what was found, and it as a detector.

    Raises:
        ValueError: no scale fits one of the budgets.
    """
    for budget in gigaflops:
        flops, found = round(budget * 1e9), {}
        for way, direction in DIRECTIONS.items():
            with suppress(ValueError):  # no scale of it is cheap enough
                found[way] = fit(base, size, direction, flops)
        if not found:
            raise ValueError(f"no scale of this detector costs {flops:,} FLOPs or less")
        for way, scaled in found.items():
            yield budget, way, scaled, Variant(NAME, scaled.config)


def table(
    gigaflops: Sequence[float], base: YoloV4TinyConfig, size: int = SIZE
) -> list[tuple[str, ...]]:
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
        for budget, way, found, detector in largest(gigaflops, base, size)
    ]


def members(
    gigaflops: Sequence[float], base: YoloV4TinyConfig, size: int = SIZE
) -> Iterator[Member]:
    """Yield a training for each budget and way to grow.

    Raises:
        ValueError: no scale fits a budget, or only one with an input below SMALLEST.
    """
    for budget, way, found, detector in largest(gigaflops, base, size):
        if found.size < SMALLEST:
            raise ValueError(
                f"--gflops {budget:g}: {way}, the input would be {found.size} pixels, and "
                f"{SMALLEST} are the fewest: give a larger budget"
            )
        changes = f"phases.0.sizes={found.size}", f"evaluation.size={found.size}"
        facts = {"budget": budget, "way": way, "size": found.size, "flops": found.cost.flops}
        yield Member(f"{budget:g}_{way.replace(' ', '_')}", detector, changes, facts=facts)


def report(results: Sequence[Result], options: argparse.Namespace) -> Report:
    """Return the report of the finished trainings; ``options.ratios`` has their times."""
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
        [_cells(row, options.ratios) for row in rows],
        ["\n".join(found), REMARK],
        partial(_plot, rows),
        {"time by the first row's": options.ratios},
    )


def _cells(row: Row, times: Mapping[str, float]) -> tuple[str, ...]:
    facts = row.first.facts
    return (
        f"{facts['budget']:g}",
        facts["way"],
        str(facts["size"]),
        f"{row.first.parameters:,}",
        f"{row.first.gmac:.3f}",
        f"{times[row.first.name]:.2f}",
        row.ap50_text,
        f"{100 * row.figures['AP']:.1f}",
    )


def _plot(rows: Sequence[Row], axes: Any) -> None:
    for way in DIRECTIONS:
        own = [row for row in rows if row.first.facts["way"] == way]
        at = [row.first.facts["flops"] / 1e9 for row in own]
        spreads = [50 * row.spread for row in own]
        if own:
            axes.errorbar(at, [100 * row.ap50 for row in own], spreads, fmt="o-", label=way)
    axes.set(xlabel="GFLOPs", ylabel="AP50 %")
    axes.set_xlim(0, 1.2 * max(row.first.facts["budget"] for row in rows))
    axes.legend(frameon=False)


def chosen(options: argparse.Namespace, quick: bool) -> tuple[list[float], YoloV4TinyConfig, int]:
    """Return budgets, base and the side of its input: those of the options, or the defaults.

    Raises:
        ValueError: the base is no YOLOv4-tiny.
    """
    budgets, base, size = (
        (QUICK_BUDGETS, QUICK_BASE, QUICK_SIZE) if quick else (BUDGETS, NAME, SIZE)
    )
    chosen = list(dict.fromkeys(options.gflops or budgets))
    return chosen, base_of(options.detector or base), options.size or size


def work(study: Study, options: argparse.Namespace) -> None:
    """Time all detectors, then train them."""
    trainings = list(members(*chosen(options, options.quick)))
    if not options.plan:
        detectors = {member.name: member.detector for member in trainings}
        sizes = {member.name: member.facts["size"] for member in trainings}
        classes = len(study.classes)
        options.ratios = kept_ratios(study.out, detectors, classes, sizes)
    study.run(trainings, options.plan)


def _more(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--gflops",
        type=positive,
        nargs="+",
        action="extend",
        default=[],
        help="budgets in 10^9 FLOPs for one image, two for a multiply-accumulate",
    )
    add("--detector", default="", help="the base that is scaled [yolov4_tiny]")
    add("--size", type=whole_number(32), help=f"side of the base's input in pixels [{SIZE}]")


COMMAND = Command(
    "scaling", "Scale YOLOv4-tiny to budgets of operations.", report, work, PAPER, QUICK, _more
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code. Without ``--data`` only the table is printed."""
    if _is_about_trainings(arguments):
        return COMMAND.main(arguments)
    parser = argparse.ArgumentParser(prog="training.studies.scaling", description=COMMAND.summary)
    _more(parser)
    options = parser.parse_args(arguments)
    try:
        rows = table(*chosen(options, quick=False))
    except ValueError as error:
        print(f"training.studies.scaling: {error}", file=sys.stderr)
        return 1
    print_table(open_console(), COLUMNS, rows, "YOLOv4-tiny, scaled")
    return 0


def _is_about_trainings(arguments: Sequence[str] | None) -> bool:
    """Return whether a data set, or help, was asked for, however it is written."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", nargs="?", default=None, const="")
    parser.add_argument("-h", "--help", action="store_true")
    options, _ = parser.parse_known_args(arguments)
    return options.data is not None or options.help


if __name__ == "__main__":
    sys.exit(main())

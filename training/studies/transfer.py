# SPDX-License-Identifier: Apache-2.0
"""How much of a backbone to take from ImageNet (YOLO-ReT, figure 2).

    python -m training.studies.transfer --data voc/data.yaml --backbone b.pt --out runs/transfer

The first blocks of a complete backbone get weights that were trained on ImageNet and are frozen,
the others begin at random; with PANet, without RFCR. AP50 over the share of the backbone's
parameters that were taken says where to truncate it: the paper's AP falls past about 60 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from compact_yolo_ros.support.arguments import whole_number
from training.detectors.complexity import parameters
from training.detectors.interface import as_module
from training.detectors.variant import Variant
from training.detectors.yolo_ret import YoloRetConfig
from training.loop.freezing import frozen_parts
from training.loop.trainer import Trainer
from training.studies.beginning import named
from training.studies.command import Command
from training.studies.member import Member, Result, Row, rows_of
from training.studies.report import INK, Report
from training.studies.study import Effort, Study
from training.weights.backbone_file import BackboneWeights, read_backbone
from training.weights.starting import start_backbone

PUBLISHED_SHARE = 0.6
"""Share of the backbone's parameters past which the paper's AP falls."""
POINTS = 6
PAPER = Effort("yolo_ret_m075_paper", ("phases=[{epochs: 100, sizes: 320}]",))
HEAD = ("first blocks", "share of parameters", "AP50 %", "AP %", "minutes")


def complete(detector: str) -> Variant:
    """Return a YOLO-ReT as the study trains it: complete backbone, no RFCR.

    Raises:
        ValueError: it is no YOLO-ReT, or its backbone keeps some blocks only.
    """
    variant = Variant.parse(detector)
    if not isinstance(variant.config, YoloRetConfig):
        raise ValueError(f"{detector} has no backbone of ImageNet: give a yolo_ret detector")
    return Variant(variant.name, replace(variant.config, truncated=False, rfcr=False))


def shares(detector: Variant) -> list[float]:
    """Return the share of the backbone's parameters in its first 0, 1, ... and all blocks.

    The last value is that of all blocks with what comes after them.
    """
    with torch.device("meta"):
        backbone = detector.build().backbone
    counts = [
        sum(map(parameters, frozen_parts(backbone, blocks)))
        for blocks in range(len(list(as_module(backbone).get_submodule("blocks").children())) + 1)
    ]
    return [count / counts[-1] for count in counts]


def evenly(of: Sequence[float], points: int) -> list[int]:
    """Return numbers of blocks whose shares lie about evenly from 0 to 1."""
    wanted = [number / (points - 1) for number in range(points)]
    return sorted({min(range(len(of)), key=lambda k: abs(of[k] - share)) for share in wanted})


def take(trainer: Trainer, weights: BackboneWeights, blocks: int, path: Path) -> None:
    """Give the first blocks of a trainer's backbone, and what is before them, a file's weights.

    Raises:
        ValueError: the file is of another backbone, or of one that pads in another way.
    """
    last = dict(trainer.model.backbone.named_children())["blocks"]
    whole = blocks == len(list(last.children()))
    start_backbone(trainer, weights, path, None if whole else blocks)


def members(detector: Variant, numbers: Sequence[int], path: Path) -> Iterator[Member]:
    """Yield a training for each number of blocks.

    Raises:
        ValueError: the file cannot be read, or a number is impossible.
    """
    of, weights = shares(detector), read_backbone(path)
    for blocks in numbers:
        if not 0 <= blocks < len(of):
            raise ValueError(f"--blocks {blocks}: the backbone has 0 to {len(of) - 1}")
        yield Member(
            f"blocks_{blocks}",
            detector,
            (f"phases.0.frozen_blocks={blocks}",),
            partial(take, weights=weights, blocks=blocks, path=path) if blocks else None,
            f"first {blocks} blocks of {named(path)}" if blocks else "",
            {"blocks": blocks, "share": of[blocks]},
        )


def best(rows: Sequence[Row]) -> Row:
    """Return the row with the highest AP50, the one with fewer blocks of equals."""
    return max(rows, key=lambda row: (row.ap50, -row.first.facts["blocks"]))


def report(results: Sequence[Result], _: argparse.Namespace) -> Report:
    """Return the report of the finished trainings."""
    rows = sorted(rows_of(results), key=lambda row: int(row.first.facts["blocks"]))
    top = best(rows)
    return Report(
        "Transfer from ImageNet",
        HEAD,
        [_cells(row) for row in rows],
        [f"Detector: `{top.first.detector}`.", _conclusion(top)],
        partial(_plot, rows),
        {"blocks": top.first.facts["blocks"]},
    )


def _conclusion(top: Row) -> str:
    share, blocks = top.first.facts["share"], top.first.facts["blocks"]
    paper = f"In the paper it falls past about {PUBLISHED_SHARE:.0%}."
    if blocks == 0:
        return (
            f"AP50 is highest without ImageNet's weights ({top.ap50_text} %): trained so, nothing "
            f"speaks for taking any. {paper}"
        )
    if share == 1:
        return (
            f"AP50 is highest with the whole backbone ({top.ap50_text} %): trained so "
            f"long, nothing speaks for truncating it. {paper}"
        )
    return (
        f"AP50 is highest with the first {blocks} blocks, {share:.0%} of the backbone's parameters "
        f"({top.ap50_text} %): truncate there. {paper}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    facts, ap = row.first.facts, row.figures["AP"]
    minutes = f"{row.first.seconds / 60:.1f}"
    return str(facts["blocks"]), f"{facts['share']:.0%}", row.ap50_text, f"{100 * ap:.1f}", minutes


def _plot(rows: Sequence[Row], axes: Any) -> None:
    at = [100 * row.first.facts["share"] for row in rows]
    axes.errorbar(at, [100 * row.ap50 for row in rows], [50 * row.spread for row in rows], fmt="o-")
    axes.axvline(100 * PUBLISHED_SHARE, color=INK, linestyle="--", label="AP falls in the paper")
    axes.set(xlabel="% of the backbone's parameters from ImageNet, frozen", ylabel="AP50 %")
    axes.set_ylim(0, None)
    axes.legend(frameon=False)


def work(study: Study, options: argparse.Namespace) -> None:
    """Train all points."""
    detector = complete(options.detector)
    numbers = list(dict.fromkeys(options.blocks)) or evenly(shares(detector), options.points)
    study.run(list(members(detector, numbers, options.backbone)), options.plan)


def _more(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backbone", type=Path, required=True, help="weights of the complete backbone")
    add(
        "--detector",
        default="yolo_ret_m075",
        help="a YOLO-ReT, whose backbone is taken: a name, or '{name: yolo_ret_m075, ...}'",
    )
    add(
        "--points",
        type=whole_number(2),
        default=POINTS,
        help=f"numbers of blocks to try [{POINTS}]",
    )
    add(
        "--blocks",
        type=whole_number(0),
        nargs="+",
        action="extend",
        default=[],
        help="the numbers, instead of --points",
    )


COMMAND = Command(
    "transfer", "Find how much of a backbone to take from ImageNet.", report, work, PAPER,
    more=_more,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(COMMAND.main())

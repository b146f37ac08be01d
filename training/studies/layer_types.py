# SPDX-License-Identifier: Apache-2.0
"""Replace the convolutions of Tiny-YOLOv3 layer by layer (Hu et al., 2021, tables 1 and 2).

    python -m training.studies.layer_types --data street/data.yaml --out runs/layer_types
    python -m training.studies.layer_types --data ... --out ... --layers 3 7 11 --table 1

Table 1 puts a depthwise separable convolution or an inverted bottleneck in the place of one 3x3
convolution; table 2 replaces one after the other from the last layer on, until it is Micro-YOLO.
Counts are exact; AP50 is that of equal, short trainings. Layers are numbered as in the cfg file of
Tiny-YOLOv3, 22 is the one that the map of stride 16 goes through.

``--start`` is not in the papers: the layers before the first of ``--layers`` are then those of
Micro-YOLO in every row, with its trained weights, and are frozen. All others begin at random in
every row. So a short training reaches an AP50 that can be compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from training.detectors.micro_yolo import MicroYoloConfig
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.loop.trainer import Trainer
from training.studies.beginning import named_weights
from training.studies.command import QUICK, Command
from training.studies.configurations import (
    REPLACED,
    Row,
    cumulative_rows,
    plain_convolutions,
    single_layer_rows,
)
from training.studies.member import Member, Result, rows_of
from training.studies.member import Row as TrainedRow
from training.studies.parallel import add_parallel, train_all
from training.studies.report import INK, Report
from training.studies.study import Effort, Study
from training.weights.origin import Origin, read_origin
from training.weights.starting import start

BASE = "micro_yolo_table1_conv"
"""The row of Tiny-YOLOv3 itself, which the others are compared with."""
TABLES = ("1", "2")
REMARK = (
    "`published` is AP50 in percent on COCO at 416 pixels, after a whole training: known are the "
    "first and the last network of the tables."
)


def rows(layers: Sequence[int], tables: Sequence[str]) -> list[Row]:
    """Return the rows of both tables: Tiny-YOLOv3 first, then those that replace some layers.

    Args:
        layers: of REPLACED.
        tables: of TABLES.
    """
    found = [*single_layer_rows(), *cumulative_rows()]
    base = next(row for row in found if row.name == BASE)
    assert base.detector.config == plain_convolutions()
    chosen = [
        row
        for row in found
        if row is not base and _layer(row) in layers and _table(row.name) in tables
    ]
    return [base, *chosen]


def _table(name: str) -> str:
    return name.removeprefix("micro_yolo_table")[0]


def _layer(row: Row) -> int:
    return next(int(part) for part in row.name.split("_") if part.isdecimal())


def members(layers: Sequence[int], tables: Sequence[str], weights: str = "") -> list[Member]:
    """Return a training for each of ``rows``.

    Args:
        layers: of REPLACED.
        tables: of TABLES.
        weights: of Micro-YOLO, for the layers before all of ``layers``; empty: fresh ones, and
            these layers are those of Tiny-YOLOv3.

    Raises:
        ValueError: the weights cannot be used.
    """
    found = rows(layers, tables)
    if not weights:
        return [Member(r.name, r.detector, facts={"replaced": _replaced(r.name)}) for r in found]
    kept = min((min(layers) - 1) // 2, len(MicroYoloConfig().trunk))
    origin = read_origin(weights, Variant.parse("micro_yolo"), chosen=False)
    return [
        Member(
            row.name,
            _with_trunk_of_micro_yolo(row.detector, kept),
            (f"phases.0.frozen_blocks={kept - 1}",),
            partial(_begin, origin, kept),
            f"{named_weights(weights)} before layer {min(layers)}",
            {"replaced": "none" if row.name == BASE else _replaced(row.name)},
        )
        for row in found
    ]


def _with_trunk_of_micro_yolo(detector: Variant, kept: int) -> Variant:
    config = detector.config
    assert isinstance(config, MicroYoloConfig)
    trunk = (*MicroYoloConfig().trunk[:kept], *config.trunk[kept:])
    return replace(detector, config=replace(config, trunk=trunk))


def _begin(origin: Origin, kept: int, trainer: Trainer) -> None:
    """Load the stem and the blocks behind it, ``kept`` layers together."""
    modules = ("backbone.stem.", *(f"backbone.blocks.{n}." for n in range(kept - 1)))
    state = {name: value for name, value in origin.state.items() if name.startswith(modules)}
    start(trainer, origin._replace(detector=trainer.recipe.detector, state=state))


def _replaced(name: str) -> str:
    if name == BASE:
        return "none (Tiny-YOLOv3)"
    if _table(name) == "1":
        number, kind = name.split("_")[-2:]
        return f"{number}: {kind}"
    return f"{name.split('_')[-1]} and all after it"


def study_layers(study: Study, options: argparse.Namespace) -> None:
    """Train all rows that were asked for."""
    layers, tables = options.layers or REPLACED, options.table or TABLES
    train_all(study, members(layers, tables, options.start), options)


def report(results: Sequence[Result], _: argparse.Namespace) -> Report:
    """Show what each replacement saves and costs."""
    found = rows_of(results)
    # Another row may be finished first, where several are trained at a time.
    base = next((row for row in found if row.first.name == BASE), None)
    size = results[0].recipe["evaluation"]["size"]
    shown = [
        [
            _table(row.first.name),
            row.first.facts["replaced"],
            _beside(row, base, lambda result: result.parameters / 1e6),
            _beside(row, base, lambda result: result.gmac),
            row.ap50_text,
            f"{100 * (row.ap50 - base.ap50):+.1f}" if base else "-",
            _published(row.first.detector),
        ]
        for row in found
    ]
    return Report(
        "Kinds of layers of Micro-YOLO",
        ("table", "replaced", "M parameters", f"GMAC @{size}", "AP50 (%)", "points", "published"),
        shown,
        [REMARK],
        partial(_draw, found),
    )


def _published(detector: str) -> str:
    """Return the published AP50 on COCO of Tiny-YOLOv3 and of Micro-YOLO; no other is known."""
    config = Variant.parse(detector).config
    tiny, micro = (DETECTORS[name].published for name in ("tiny_yolov3", "micro_yolo"))
    assert tiny and micro
    if config == plain_convolutions():
        return f"{tiny.also[micro.data][micro.side]}"
    return f"{micro.ap50[micro.side]}" if config == MicroYoloConfig() else "-"


def _beside(row: TrainedRow, base: TrainedRow | None, of: Callable[[Result], float]) -> str:
    value = of(row.first)
    return f"{value:.3f} ({value / of(base.first):.0%})" if base else f"{value:.3f}"


def _draw(found: Sequence[Any], axes: Any) -> None:
    colours = {"conv": "tab:red", "dsconv": "tab:orange", "mbconv": "tab:blue"}
    for row in found:
        last = row.first.name.split("_")[-1]
        axes.plot(row.first.gmac, 100 * row.ap50, "o", color=colours.get(last, INK))
        axes.annotate(row.first.facts["replaced"], (row.first.gmac, 100 * row.ap50), fontsize=6,
                      xytext=(3, 3), textcoords="offset points", color=INK)  # fmt: skip
    axes.set_xlabel(f"GMAC @{found[0].first.recipe['evaluation']['size']}")
    axes.set_ylabel("AP50 (%)")


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of this study."""
    for name, kind, known in (("--layers", int, REPLACED), ("--table", str, TABLES)):
        parser.add_argument(name, type=kind, nargs="+", action="extend", choices=known)
    parser.add_argument(
        "--start",
        default="",
        help="weights of micro_yolo for the layers before all of --layers: .pt, ONNX or name "
        "[fresh ones]",
    )
    add_parallel(parser)


COMMAND = Command(
    "layer_types",
    "Replace the convolutions of Tiny-YOLOv3 layer by layer.",
    report,
    study_layers,
    Effort("cpu_small", ("phases=[{epochs: 20, sizes: 416, mosaic: 0.5}]", "evaluation.size=416")),
    replace(QUICK, changes=(*QUICK.changes, "phases=[{epochs: 3, sizes: 128}]")),
    more,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())

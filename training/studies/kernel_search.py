# SPDX-License-Identifier: Apache-2.0
"""Search the kernels of Micro-YOLO (Hu et al., 2021, section 5.3).

    python -m training.studies.kernel_search --data street/data.yaml --out runs/kernels
    python -m training.studies.kernel_search --data ... --out ... --kernels 35353 33333 55555

Layers 3, 5, 7, 9 and 11 have depthwise kernels of 3 or 5 pixels: 32 networks. Each is trained for a
short time, as published, and the best AP wins; the paper's is 3, 5, 3, 5, 3. With ``--early-stop``
a training ends after an epoch in which its AP50 is below the median that earlier trainings had
after as many epochs (``median_rule``). Such a one is listed without a rank: its AP50 is that of
fewer epochs. ``--parallel`` trains several at a time.

``--start`` is not in the paper: all begin with weights of Micro-YOLO, and of the kernels that are
searched for with the 3x3 pixels in the middle, zeros around them. So all permutations begin as the
same function, and none has an advantage by its shape.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from torch import Tensor
from torch.nn import functional

from training.detectors.micro_yolo import MicroYoloConfig
from training.detectors.variant import Variant
from training.loop.trainer import Trainer
from training.studies.beginning import named_weights
from training.studies.command import QUICK, Command
from training.studies.median_rule import below_median
from training.studies.member import Member, Result, Row, folder_of, rows_of
from training.studies.parallel import add_parallel, train_all
from training.studies.rank_correlation import rank_correlation
from training.studies.report import INK, Report
from training.studies.study import Effort, Study
from training.weights.origin import Origin, read_origin
from training.weights.starting import start

PUBLISHED = "35353"
LAYERS = (3, 5, 7, 9, 11)
SIZES = "35"
ALL = tuple("".join(kernels) for kernels in product(SIZES, repeat=len(LAYERS)))
"""All permutations, a digit for each of LAYERS."""
SEARCHED = re.compile(r"backbone\.blocks\.\d\.depthwise\.conv\.weight")
"""Names of the kernels whose sizes are searched for."""


def with_kernels(kernels: str) -> Variant:
    """Return Micro-YOLO with other kernels, a digit for each of LAYERS.

    Raises:
        ValueError: the text is none of ALL.
    """
    if kernels not in ALL:
        raise ValueError(f"{kernels!r} must be five digits, each 3 or 5, as {PUBLISHED}")
    return Variant("micro_yolo", MicroYoloConfig().with_kernels(*map(int, kernels)))


def members(kernels: Sequence[str], weights: str = "") -> list[Member]:
    """Return a training for each permutation.

    Args:
        kernels: of ALL.
        weights: of Micro-YOLO, to start from; empty: fresh ones.

    Raises:
        ValueError: a text is none of ALL, or the weights cannot be used.
    """
    base = Variant.parse("micro_yolo")
    begin = partial(_begin, read_origin(weights, base, chosen=False)) if weights else None
    origin = named_weights(weights)
    return [
        Member(f"k{text}", with_kernels(text), (), begin, origin, {"kernels": text})
        for text in kernels
    ]


def _begin(origin: Origin, trainer: Trainer) -> None:
    wanted = trainer.model.state_dict()
    state = {
        name: _middle(value, wanted[name].shape[-1]) if SEARCHED.fullmatch(name) else value
        for name, value in origin.state.items()
    }
    start(trainer, origin._replace(detector=trainer.recipe.detector, state=state))


def _middle(kernels: Tensor, side: int) -> Tensor:
    """Return the middle 3x3 of kernels (C, 1, k, k), with zeros around it up to ``side``."""
    middle = functional.pad(kernels, ((3 - kernels.shape[-1]) // 2,) * 4)
    return functional.pad(middle, ((side - 3) // 2,) * 4)


def search(study: Study, options: argparse.Namespace) -> None:
    """Train all permutations that were asked for."""
    wanted = members(list(dict.fromkeys(options.kernels or ALL)), options.start)

    known: dict[str, Result] = {}

    def hopeless(trainer: Trainer) -> bool:
        _read_more(study, wanted, known)
        return below_median(list(known.values()), trainer)

    if options.early_stop:
        wanted = [replace(member, hopeless=hopeless) for member in wanted]
    train_all(study, wanted, options)


def _read_more(study: Study, members: Sequence[Member], known: dict[str, Result]) -> None:
    """Add, by their folders, the results of the trainings that have ended since the last time.

    A folder of another study ends no training here: it is told when its own is due.
    """
    for member, seed in study.trainings(members):
        if folder_of(member.name, seed) not in known:
            with suppress(ValueError):
                if found := study.finished(member, seed):
                    known[found.folder] = found


def ranking(results: Sequence[Result]) -> list[Row]:
    """Return the permutations, the best first; those that were stopped early come last."""
    return sorted(rows_of(results), key=lambda row: (row.stopped, -row.ap50))


def report(results: Sequence[Result], _: argparse.Namespace) -> Report:
    """Show the ranking, the published permutation in bold."""
    ranked = ranking(results)
    size = results[0].recipe["evaluation"]["size"]
    rows = [
        [
            "-" if row.stopped else f"{place}",
            f"**{_shown(row)}**" if row.first.facts["kernels"] == PUBLISHED else _shown(row),
            f"{row.first.parameters / 1e6:.3f}",
            f"{row.first.gmac:.4f}",
            f"{row.first.epochs}{', stopped' * row.stopped}",
            row.ap50_text,
        ]
        for place, row in enumerate(ranked, 1)
    ]
    return Report(
        "Kernels of Micro-YOLO",
        ("rank", "kernels of layers 3, 5, 7, 9, 11", "M parameters", f"GMAC @{size}", "epochs",
         "AP50 (%)"),
        rows,
        _conclusion(ranked),
        partial(_draw, ranked),
    )  # fmt: skip


def _shown(row: Row) -> str:
    return ", ".join(row.first.facts["kernels"])


def _conclusion(ranked: Sequence[Row]) -> list[str]:
    whole = [row for row in ranked if not row.stopped]
    said = [_place_of_published(ranked, whole)]
    if len(whole) > 2:
        pairs = [(row.first.facts["kernels"].count("5"), row.ap50) for row in whole]
        said.append(
            "Rank correlation (Spearman) of AP50 with the number of 5 x 5 kernels: "
            f"{rank_correlation(*zip(*pairs, strict=True)):.2f}."
        )
    if stopped := len(ranked) - len(whole):
        said.append(
            f"Stopped early, and not compared: {stopped}. AP50 of fewer epochs says nothing beside "
            "that of all."
        )
    return said


def _place_of_published(ranked: Sequence[Row], whole: Sequence[Row]) -> str:
    """Compare the published permutation with those that were trained to the end, too."""
    name = f"The published permutation, {', '.join(PUBLISHED)},"
    places = {row.first.facts["kernels"]: place for place, row in enumerate(ranked)}
    if PUBLISHED not in places:
        return f"{name} is not among them."
    own = ranked[places[PUBLISHED]]
    if own.stopped:
        return f"{name} was stopped after epoch {own.first.epochs}, below the median of the others."
    return (
        f"{name} is number {places[PUBLISHED] + 1} of {len(whole)}, "
        f"{100 * (whole[0].ap50 - own.ap50):.1f} points of AP50 below the best."
    )


def _draw(ranked: Sequence[Row], axes: Any) -> None:
    for row in ranked:
        own = row.first.facts["kernels"] == PUBLISHED
        colour = "tab:red" if own else INK if row.stopped else "tab:blue"
        axes.plot(row.first.gmac, 100 * row.ap50, "o", color=colour, label="_" * (not own)
                  + f"published: {_shown(row)}",
                  fillstyle="none" if row.stopped else "full")  # fmt: skip
        axes.annotate(row.first.facts["kernels"], (row.first.gmac, 100 * row.ap50), fontsize=7,
                      xytext=(3, 3), textcoords="offset points", color=INK)  # fmt: skip
    axes.set_xlabel(f"GMAC @{ranked[0].first.recipe['evaluation']['size']}")
    axes.set_ylabel("AP50 (%)" + ", hollow: stopped early" * any(row.stopped for row in ranked))
    if any(row.first.facts["kernels"] == PUBLISHED for row in ranked):
        axes.legend(frameon=False)


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of this study."""
    parser.add_argument(
        "--kernels", nargs="+", action="extend", default=[], metavar="35353",
        help="permutations, a digit for each of layers 3, 5, 7, 9 and 11 [all 32]",
    )  # fmt: skip
    parser.add_argument(
        "--start", default="", help="weights of micro_yolo: .pt, ONNX or name [fresh ones]"
    )
    parser.add_argument("--early-stop", action="store_true", help="by the median of the others")
    add_parallel(parser)


COMMAND = Command(
    "kernel_search",
    "Search the kernels of Micro-YOLO.",
    report,
    search,
    Effort(
        "cpu_small",
        ("phases=[{epochs: 20, sizes: 416, mosaic: 0.5}]", "evaluation.size=416"),
    ),
    replace(QUICK, changes=(*QUICK.changes, "evaluation.every=2")),
    more,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())

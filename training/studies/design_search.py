# SPDX-License-Identifier: Apache-2.0
"""Search designs like YOLO Nano's (Wong et al., 2019, section 2).

    python -m training.studies.design_search --data street/data.yaml --out runs/designs

The paper's generative synthesis is not public. What it solves is: find the generator of networks
whose NetScore is the largest under an indicator 1_r, iteratively (its equation 1). The equivalent
that can be run is an evolutionary search under the same indicator, and is called that:

1. The archive begins with yolo_nano and is never made worse: each generation changes the designs of
   it that have the best NetScore and enough AP (``nano_designs``: modules more, less or of another
   kind; widths, squeezed widths, expansions).
2. Changed designs beyond the operations or the bytes that are allowed are rejected before anything
   is trained: both are counted exactly. ``--least-ap`` is the third part of the indicator: a share
   of yolo_nano's AP50 after the same training. The paper asked for 65 % where it reached 69.1 %.
3. A proxy that needs no training orders the others: NASWOT (Mellor et al., 2021), which asks how
   differently the activations answer to different images; the AP that it promises is the straight
   line through the designs trained so far. Its rank correlation with the AP is reported.
4. The most promising few are trained for ``--short`` epochs and join the archive.
5. ``--finals`` designs of the front of AP and cost, and yolo_nano, are trained as long as the
   recipe says, with every seed.

A search is the same again with the same ``--draws``. Every design is trained alike, yolo_nano too:
from random weights, or with ``--start``, which is not in the paper, with trained weights of
yolo_nano in all but the stages that are changed (``--stages``) and those that read these. They
begin at random in every design, in yolo_nano too; so no design has more of the trained weights
than another. The trunk before the changed stages is frozen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from compact_yolo_ros.support.arguments import positive, whole_number
from compact_yolo_ros.support.terminal import say
from training.data.loading import epoch_batches
from training.describe import net_score
from training.detectors.variant import Variant
from training.detectors.yolo_nano import YoloNanoConfig
from training.loop.trainer import Trainer
from training.studies.beginning import named_weights
from training.studies.command import QUICK, Command
from training.studies.latency import kept_ratios
from training.studies.member import Member, Result, Row, rows_of
from training.studies.nano_designs import (
    READERS,
    SIDE,
    DesignCost,
    Limits,
    begins_fresh,
    cost_of,
    mutated,
    text_of,
)
from training.studies.naswot import naswot
from training.studies.rank_correlation import rank_correlation
from training.studies.report import Report
from training.studies.study import Cost, Effort, Study
from training.weights.origin import read_origin
from training.weights.starting import start

NAME = "yolo_nano"
TRIES = 200
"""Draws for one new design."""
FINAL = "final_"
PROXY_IMAGES, PROXY_SIDE = 16, 96
STAGES = ("trunk.4", "head32")
"""Stages that are changed with --start: two thirds of the parameters, a fifth of the operations."""
LEAST_AP = 94.0
"""65 of 69.1 %: the least AP50 that the paper asked for, as a share of what it reached."""


@dataclass(frozen=True)
class Trained:
    """A design of the archive.

    Attributes:
        design: its modules.
        cost: counted.
        proxy: its score without training.
        result: of its short training.
    """

    design: YoloNanoConfig
    cost: DesignCost
    proxy: float
    result: Result

    @property
    def score(self) -> float:
        """NetScore of the AP50 after the short training."""
        return score_of(self.result.ap50, self.cost)


def score_of(ap50: float, cost: DesignCost) -> float:
    """Return NetScore of an AP50, 0 to 1; one of 0 is far below all others."""
    percent = max(100 * ap50, 1e-3)
    return net_score(percent, cost.parameters / 1e6, cost.operations / 2e9)


def promised(archive: Sequence[Trained], proxy: float) -> float:
    """Return the AP50 that a proxy promises, 0 to 1: the straight line through the archive.

    A line that falls, or one of fewer than three designs, is not believed: then it is the mean.
    """
    found = np.array([[t.proxy, t.result.ap50] for t in archive])
    mean = float(found[:, 1].mean())
    spread = found[:, 0] - found[:, 0].mean()
    if len(archive) < 3 or not spread.any():
        return mean
    slope = max(0.0, float((spread * found[:, 1]).sum() / (spread**2).sum()))
    return max(0.0, mean + slope * (proxy - float(found[:, 0].mean())))


def elite(archive: Sequence[Trained], least_ap: float, count: int) -> list[Trained]:
    """Return the designs with enough AP50 that have the best NetScores.

    Args:
        archive: trained designs, yolo_nano first.
        least_ap: percent of the AP50 of yolo_nano.
        count: most that are returned.
    """
    least = least_ap / 100 * archive[0].result.ap50
    good = [t for t in archive if t.result.ap50 >= least]
    return sorted(good, key=lambda t: -t.score)[:count]


def children(
    parents: Sequence[YoloNanoConfig],
    seen: Sequence[YoloNanoConfig],
    limits: Limits,
    count: int,
    rng: Generator,
    names: Sequence[str],
) -> list[YoloNanoConfig]:
    """Draw new designs within the limits.

    Args:
        parents: that are changed.
        seen: designs that are not drawn again.
        limits: the indicator.
        count: how many; fewer if no more are found.
        rng: draws.
        names: of the stages that may be changed.
    """
    found: list[YoloNanoConfig] = []
    known = set(seen)
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        design = parents[int(rng.integers(len(parents)))]
        try:
            for _ in range(int(rng.integers(1, 4))):
                design = mutated(design, rng, names)
            fitting = design not in known and limits.allows(cost_of(design))
        except ValueError:  # it is not possible there, or the network cannot be built
            continue
        if fitting:
            known.add(design)
            found.append(design)
    return found


class Search:
    """The search over a study.

    Args:
        study: that trains.
        options: of the command.
    """

    def __init__(self, study: Study, options: argparse.Namespace) -> None:
        self.study, self.options = study, options
        self.limits = Limits(1e9 * options.gigaops, 1e6 * options.megabytes)
        self.archive: list[Trained] = []
        self.proxies: dict[YoloNanoConfig, float] = {}
        self.begin = None
        self.stages = options.stages or (STAGES if options.start else tuple(READERS))
        if options.start:
            self.begin = _beginning(options.start, self.stages)
        self.images = self._images()

    def _images(self) -> Tensor:
        recipe = self.study.recipe(self._member("x", Variant.parse(NAME)), 0)
        samples = self.study.samples(recipe)
        batches = epoch_batches(
            samples, (PROXY_SIDE,), PROXY_IMAGES, recipe.augmentation, 0.0, (0, 0), workers=0
        )
        return next(iter(batches)).images.permute(0, 3, 1, 2).float() / 255

    def run(self) -> None:
        """Search, then train the front.

        Raises:
            ValueError: yolo_nano, with which the search begins, is beyond the limits.
        """
        first = cost_of(YoloNanoConfig())
        if not self.limits.allows(first):
            raise ValueError(
                f"yolo_nano, with which the search begins, has {first.operations / 1e9:.2f} 10^9 "
                f"operations and {first.bytes / 1e6:.2f} MB: give --gigaops and --megabytes no less"
            )
        say(self.study.console, str(self._cost()))
        if self.options.plan:
            return
        self._train(YoloNanoConfig(), "g0_0")
        for generation in range(1, self.options.generations + 1):
            self._generation(generation)
        say(self.study.console, f"All {len(self.archive)} designs are timed; the best train on.")
        for trained in self._finalists():
            name = FINAL + trained.result.name
            member = self._member(name, Variant(NAME, trained.design), trained.result.facts, False)
            for seed in self.study.seeds:
                self.study.train(member, seed)

    def _cost(self) -> Cost:
        """Estimate the search as if every design were as large as yolo_nano."""
        options, first = self.options, Variant.parse(NAME)
        designs = 1 + options.generations * options.trained
        finals = (1 + options.finals) * len(self.study.seeds)
        return self.study.cost_of_search(
            [
                (self._member("plan", first), designs, "g*"),
                (self._member("plan", first, short=False), finals, f"{FINAL}*"),
            ]
        )

    def _generation(self, number: int) -> None:
        options = self.options
        rng = np.random.default_rng((options.draws, number))
        parents = [t.design for t in elite(self.archive, options.least_ap, options.parents)]
        known = [t.design for t in self.archive]
        drawn = children(parents, known, self.limits, options.children, rng, self.stages)
        ranked = sorted(drawn, key=lambda design: -self._hope(design))
        for place, design in enumerate(ranked[: options.trained]):
            self._train(design, f"g{number}_{place}")

    def _hope(self, design: YoloNanoConfig) -> float:
        return score_of(promised(self.archive, self._proxy(design)), cost_of(design))

    def _proxy(self, design: YoloNanoConfig) -> float:
        if design not in self.proxies:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = Variant(NAME, design).build(len(self.study.classes))
            self.proxies[design] = naswot(network, self.images)
        return self.proxies[design]

    def _member(
        self,
        name: str,
        detector: Variant,
        facts: Mapping[str, Any] | None = None,
        short: bool = True,
    ) -> Member:
        changes = [f"phases.0.epochs={self.options.short}"] if short else []
        origin = ""
        if self.begin:
            changes.append(f"phases.0.frozen_blocks={frozen_blocks(self.stages)}")
            origin = f"{named_weights(self.options.start)} without {', '.join(self.stages)}"
        return Member(name, detector, tuple(changes), self.begin, origin, facts or {})

    def _train(self, design: YoloNanoConfig, name: str) -> None:
        proxy, cost = self._proxy(design), cost_of(design)
        facts = {"proxy": proxy, "operations": cost.operations, "bytes": cost.bytes}
        member = self._member(name, Variant(NAME, design), facts)
        result = self.study.train(member, self.study.seeds[0])
        self.archive.append(Trained(design, cost, proxy, result))

    def _finalists(self) -> list[Trained]:
        """Return yolo_nano, and the best of the front."""
        base, count = self.archive[0], self.options.finals
        on_front = front(self.archive)
        best = elite(self.archive, self.options.least_ap, len(self.archive))
        return [base, *[t for t in best if t is not base and t in on_front][:count]]


def _beginning(weights: str, changed: Sequence[str]) -> Callable[[Trainer], None]:
    """Return what gives a trainer the weights of yolo_nano, but for the stages that are changed.

    Raises:
        ValueError: they cannot be read, or are of another detector.
    """
    origin = read_origin(weights, Variant.parse(NAME), chosen=False)
    state = {k: v for k, v in origin.state.items() if not begins_fresh(k, changed)}

    def begin(trainer: Trainer) -> None:
        start(trainer, origin._replace(detector=trainer.recipe.detector, state=state))

    return begin


def frozen_blocks(changed: Sequence[str]) -> int:
    """Return how many blocks of the trunk come before all changed stages."""
    trunk = YoloNanoConfig().trunk
    first = next((n for n in range(len(trunk)) if f"trunk.{n}" in changed), len(trunk))
    return max(0, sum(map(len, trunk[:first])) - 1)


def front(archive: Sequence[Trained]) -> list[Trained]:
    """Return the designs that no other one beats in AP50, operations and bytes together."""
    figures = [(-t.result.ap50, t.cost.operations, t.cost.bytes) for t in archive]
    return [t for t, unbeaten in zip(archive, unbeaten_of(figures), strict=True) if unbeaten]


def unbeaten_of(figures: Sequence[tuple[float, ...]]) -> list[bool]:
    """Return of each tuple whether no other is at most as large in all, and smaller in one."""

    def beats(ours: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
        return ours != theirs and all(x <= y for x, y in zip(ours, theirs, strict=True))

    return [not any(beats(other, own) for other in figures) for own in figures]


def report(results: Sequence[Result], options: argparse.Namespace) -> Report:
    """Show all designs, the final ones last, with NetScore beside that of yolo_nano."""
    short = rows_of([r for r in results if not r.name.startswith(FINAL)])
    final = rows_of([r for r in results if r.name.startswith(FINAL)])
    # The search is over when something is trained finally: then the designs are timed, once.
    times = _times(short, options) if final else {}
    on_front = _names_on_front(short, times)
    return Report(
        "Designs like YOLO Nano's",
        ("design", "M parameters", f"G operations @{SIDE}", "MB, 8-bit kernels", "time", "proxy",
         "epochs", "AP50 (%)", "NetScore", "front"),
        [_cells(row, times, on_front) for row in (*short, *final)],
        [*_conclusion(final, options), _proxy_sentence([row.first for row in short]), REMARK],
        partial(_draw, short, final, times, on_front),
        {"designs": {r.name: r.detector for r in results}, "front": sorted(on_front)},
    )  # fmt: skip


def _names_on_front(short: Sequence[Row], times: Mapping[str, float]) -> set[str]:
    """Return the designs that none beats in AP50 after the short training and all three costs."""
    figures = [(-row.ap50, *(cost(row, times) for cost in COSTS.values())) for row in short]
    return {r.first.name for r, own in zip(short, unbeaten_of(figures), strict=True) if own}


def _cells(row: Row, times: Mapping[str, float], on_front: Collection[str]) -> tuple[str, ...]:
    first, name = row.first, row.first.name
    own = "-" if name.startswith(FINAL) else "yes" if name in on_front else "no"
    return (
        name,
        f"{first.parameters / 1e6:.3f}",
        f"{_operations(row, times):.2f}",
        f"{_megabytes(row, times):.2f}",
        f"{_time(row, times):.2f}" if times else "-",
        f"{first.facts['proxy']:.2f}",
        f"{first.epochs}",
        row.ap50_text,
        f"{_score(row):.1f}",
        own,
    )


def _operations(row: Row, _: Mapping[str, float]) -> float:
    return float(row.first.facts["operations"]) / 1e9


def _megabytes(row: Row, _: Mapping[str, float]) -> float:
    return float(row.first.facts["bytes"]) / 1e6


def _time(row: Row, times: Mapping[str, float]) -> float:
    """Return the time of a design by yolo_nano's; 0: they are not known yet."""
    return times.get(row.first.name.removeprefix(FINAL), 0.0)


COSTS = {
    f"G operations @{SIDE}": _operations,
    "MB, 8-bit kernels": _megabytes,
    "time by yolo_nano's": _time,
}
"""What a design costs, by the name of the axis."""
REMARK = (
    "`time` is that of the deployed network on one thread by yolo_nano's. On the front are the "
    "designs that no other beats in AP50 after the short training, operations, bytes and time."
)


def _score(row: Row) -> float:
    facts = row.first.facts
    return score_of(row.ap50, DesignCost(row.first.parameters, facts["operations"], facts["bytes"]))


def _times(short: Sequence[Row], options: argparse.Namespace) -> Mapping[str, float]:
    detectors = {row.first.name: Variant.parse(row.first.detector) for row in short}
    size = short[0].first.recipe["evaluation"]["size"]
    return kept_ratios(options.out, detectors, 20, size)


def _conclusion(final: Sequence[Row], options: argparse.Namespace) -> list[str]:
    """Compare the best final design with yolo_nano."""
    if len(final) < 2:
        return []
    base = final[0]
    least = options.least_ap / 100 * base.ap50
    best = max((row for row in final if row is base or row.ap50 >= least), key=_score)
    if best is base:
        return [
            f"No design with at least {options.least_ap:g} % of yolo_nano's AP50 has a better "
            "NetScore after equal training."
        ]
    config = Variant.parse(best.first.detector).config
    assert isinstance(config, YoloNanoConfig)
    operations = [row.first.facts["operations"] for row in (best, base)]
    return [
        f"{best.first.name} has NetScore {_score(best):.1f}, yolo_nano {_score(base):.1f} after "
        f"equal training: AP50 {best.ap50_text} against {base.ap50_text} %, "
        f"{operations[0] / operations[1]:.0%} of its operations, "
        f"{best.first.parameters / base.first.parameters:.0%} of its parameters.",
        f"Its modules: `{text_of(config)}`",
    ]


def _proxy_sentence(short: Sequence[Result]) -> str:
    if len(short) < 3:
        return ""
    value = rank_correlation([r.facts["proxy"] for r in short], [r.ap50 for r in short])
    return (
        f"Rank correlation (Spearman) of the proxy, NASWOT, with AP50 over {len(short)} designs "
        f"after the short training: {value:.2f}."
    )


def _draw(
    short: Sequence[Row],
    final: Sequence[Row],
    times: Mapping[str, float],
    on_front: Collection[str],
    axes: Any,
) -> None:
    """Draw AP50 over each cost; what is beaten by another design is hollow."""
    figure = axes.figure
    axes.remove()
    costs = {label: of for label, of in COSTS.items() if times or of is not _time}
    panels = figure.subplots(1, len(costs), sharey=True)
    both = (short, "o", "short training"), (final, "D", "final training")
    for panel, (label, of) in zip(panels, costs.items(), strict=True):
        for found, marker, trained in both:
            for number, row in enumerate(found):
                beaten = found is short and row.first.name not in on_front
                panel.errorbar(of(row, times), 100 * row.ap50, 50 * row.spread, fmt=marker,
                               color="tab:blue" if number else "tab:red", markersize=5,
                               fillstyle="none" if beaten else "full",
                               label=None if number else f"{NAME}, {trained}")  # fmt: skip
        panel.set_xlabel(label)
        panel.margins(0.15)
    panels[0].set_ylabel("AP50 (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=2,
                  loc="outside upper center")  # fmt: skip


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of this study."""
    add = parser.add_argument
    some = whole_number(1)
    add("--generations", type=some, default=4, help="of designs [4]")
    add("--children", type=some, default=32, help="designs drawn in a generation [32]")
    add("--trained", type=some, default=4, help="of them that are trained [4]")
    add("--parents", type=some, default=4, help="designs that are changed [4]")
    add("--short", type=some, default=5, help="epochs of the trainings of the search [5]")
    add("--gigaops", type=positive, default=5.0, help=f"1_r: most 10^9 operations @{SIDE} [5]")
    add("--megabytes", type=positive, default=4.2, help="1_r: most MB of 8-bit kernels [4.2]")
    add(
        "--least-ap",
        type=positive,
        default=LEAST_AP,
        metavar="PERCENT",
        help=f"1_r: least AP50, in percent of yolo_nano's after the same training [{LEAST_AP:g}]",
    )
    add(
        "--finals",
        type=some,
        default=3,
        help="designs beside yolo_nano that are trained longer [3]",
    )
    add(
        "--stages",
        nargs="+",
        action="extend",
        choices=READERS,
        default=[],
        help=f"that are changed [all; with --start {' '.join(STAGES)}]",
    )
    add("--draws", type=whole_number(0), default=0, help="seed of the search [0]")
    add(
        "--start",
        default="",
        help="weights of yolo_nano for all but --stages: .pt, ONNX or name [fresh ones]",
    )


COMMAND = Command(
    "design_search",
    "Search designs like YOLO Nano's.",
    report,
    lambda study, options: Search(study, options).run(),
    Effort("cpu_small", ("phases=[{epochs: 100, sizes: 416, mosaic: 0.5}]", "evaluation.size=416")),
    replace(QUICK, changes=(*QUICK.changes, "phases=[{epochs: 6, sizes: 96}]")),
    more,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())

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
   is trained: both are counted exactly.
3. A proxy that needs no training orders the others: NASWOT (Mellor et al., 2021), which asks how
   differently the activations answer to different images; the AP that it promises is the straight
   line through the designs trained so far. Its rank correlation with the AP is reported.
4. The most promising few are trained for ``--short`` epochs and join the archive.
5. The designs on the front of AP and cost, and yolo_nano, are trained as long as the recipe says.
   ``--least-ap`` is the third part of the indicator: it holds for parents if any design has it, and
   for the winner.

A search is the same again with the same ``--draws``. ``--start`` is not in the paper: yolo_nano
begins with trained weights, and every other design with those of its parent as far as they fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from compact_yolo_ros.support.terminal import say
from training.data.loading import epoch_batches
from training.describe import net_score
from training.detectors.variant import Variant
from training.detectors.yolo_nano import YoloNanoConfig
from training.loop.checkpoint import load_detector
from training.loop.trainer import Trainer
from training.studies.command import QUICK, Command
from training.studies.latency import kept_ratios
from training.studies.member import Member, Result
from training.studies.nano_designs import (
    SIDE,
    DesignCost,
    Limits,
    cost_of,
    inherited,
    mutated,
    text_of,
)
from training.studies.naswot import naswot
from training.studies.rank_correlation import rank_correlation
from training.studies.report import INK, Report
from training.studies.study import Effort, Study
from training.train import read_origin, start

NAME = "yolo_nano"
TRIES = 200
"""Draws for one new design."""
FINAL = "final_"
PROXY_IMAGES, PROXY_SIDE = 16, 96


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
        return score_of(self.result, self.cost)


def score_of(result: Result, cost: DesignCost) -> float:
    """Return NetScore of a training; an AP of 0 is far below all others."""
    percent = max(100 * result.ap50, 1e-3)
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


def parents(archive: Sequence[Trained], least_ap: float, count: int) -> list[Trained]:
    """Return the designs that are changed next: the best NetScores of those with enough AP50."""
    good = [t for t in archive if 100 * t.result.ap50 >= least_ap] or list(archive)
    return sorted(good, key=lambda t: -t.score)[:count]


def children(
    elite: Sequence[Trained],
    seen: Sequence[YoloNanoConfig],
    limits: Limits,
    count: int,
    rng: Generator,
) -> list[tuple[YoloNanoConfig, Trained]]:
    """Draw new designs within the limits, each with its parent.

    Args:
        elite: parents.
        seen: designs that are not drawn again.
        limits: the indicator.
        count: how many; fewer if no more are found.
        rng: draws.
    """
    found: list[tuple[YoloNanoConfig, Trained]] = []
    known = set(seen)
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        parent = elite[int(rng.integers(len(elite)))]
        design = parent.design
        try:
            for _ in range(int(rng.integers(1, 4))):
                design = mutated(design, rng)
            fitting = design not in known and limits.allows(cost_of(design))
        except ValueError:  # it is not possible there, or the network cannot be built
            continue
        if fitting:
            known.add(design)
            found.append((design, parent))
    return found


class Search:
    """The search over a study.

    Args:
        study: that trains.
        options: of the command.
    """

    def __init__(self, study: Study, options: argparse.Namespace) -> None:
        self.study, self.options = study, options
        self.archive: list[Trained] = []
        self.images = self._images()

    def _images(self) -> Tensor:
        recipe = self.study.recipe(self._member("x", Variant.parse(NAME)), 0)
        batches = epoch_batches(
            self.study.train_set, (PROXY_SIDE,), PROXY_IMAGES, recipe.augmentation, 0.0, (0, 0),
            workers=0,
        )  # fmt: skip
        return next(iter(batches)).images.permute(0, 3, 1, 2).float() / 255

    def run(self) -> None:
        """Search, then train the front."""
        options, study = self.options, self.study
        first = Variant.parse(NAME)
        plan = 1 + options.generations * options.trained
        cost = study.cost([self._member(f"plan_{n}", first) for n in range(plan)])
        say(study.console, f"{cost} The designs of the front are trained after that.")
        if options.plan:
            return
        base = first.config
        assert isinstance(base, YoloNanoConfig)
        self._train(base, None, "g0_0")
        for generation in range(1, options.generations + 1):
            self._generation(generation)
        self._finish()

    def _generation(self, number: int) -> None:
        options = self.options
        rng = np.random.default_rng((options.draws, number))
        limits = Limits(1e9 * options.gigaops, 1e6 * options.megabytes)
        elite = parents(self.archive, options.least_ap, options.parents)
        drawn = children(elite, [t.design for t in self.archive], limits, options.children, rng)
        ranked = sorted(drawn, key=lambda pair: -self._hope(pair[0]))
        for place, (design, parent) in enumerate(ranked[: options.trained]):
            self._train(design, parent, f"g{number}_{place}")

    def _hope(self, design: YoloNanoConfig) -> float:
        cost, ap = cost_of(design), promised(self.archive, self._proxy(design))
        return net_score(max(100 * ap, 1e-3), cost.parameters / 1e6, cost.operations / 2e9)

    def _proxy(self, design: YoloNanoConfig) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Variant(NAME, design).build(len(self.study.train_set.classes))
        return naswot(network, self.images)

    def _member(self, name: str, detector: Variant, short: bool = True) -> Member:
        changes = (f"phases.0.epochs={self.options.short}",) if short else ()
        return Member(name, detector, changes)

    def _train(self, design: YoloNanoConfig, parent: Trained | None, name: str) -> None:
        proxy, cost = self._proxy(design), cost_of(design)
        member = replace(
            self._member(name, Variant(NAME, design)),
            begin=self._begin(design, parent),
            origin=parent.result.name if parent else self.options.start,
            facts={"proxy": proxy, "operations": cost.operations, "bytes": cost.bytes},
        )
        result = self.study.train(member, self.study.seeds[0])
        self.archive.append(Trained(design, cost, proxy, result))

    def _begin(self, design: YoloNanoConfig, parent: Trained | None) -> Any:
        if not self.options.start:
            return None
        if parent is None:
            return partial(_begin_with, self.options.start)
        path = self.study.folder(parent.result.name, self.study.seeds[0]) / "last.pt"
        return partial(_inherit, path, parent.design, design)

    def _finish(self) -> None:
        """Train the front, and the original beside it, as long as the recipe says."""
        chosen = {t.result.name: t for t in (self.archive[0], *front(self.archive))}
        for name, trained in chosen.items():
            member = replace(
                self._member(FINAL + name, Variant(NAME, trained.design), short=False),
                begin=partial(_inherit, self.study.folder(name, self.study.seeds[0]) / "last.pt",
                              trained.design, trained.design) if self.options.start else None,
                origin=name if self.options.start else "",
                facts=trained.result.facts,
            )  # fmt: skip
            self.study.train(member, self.study.seeds[0])


def _begin_with(weights: str, trainer: Trainer) -> None:
    start(trainer, read_origin(weights, trainer.recipe.detector))


def _inherit(path: Any, parent: YoloNanoConfig, child: YoloNanoConfig, trainer: Trainer) -> None:
    network, _ = load_detector(path)
    trainer.model.load_state_dict(inherited(network.state_dict(), parent, child, trainer.model))


def front(archive: Sequence[Trained]) -> list[Trained]:
    """Return the designs that no other one beats in AP50, operations and bytes together."""

    def beats(a: Trained, b: Trained) -> bool:
        ours = (-a.result.ap50, a.cost.operations, a.cost.bytes)
        theirs = (-b.result.ap50, b.cost.operations, b.cost.bytes)
        return ours != theirs and all(x <= y for x, y in zip(ours, theirs, strict=True))

    return [t for t in archive if not any(beats(other, t) for other in archive)]


def report(results: Sequence[Result], options: argparse.Namespace) -> Report:
    """Show all designs, the final ones last, with NetScore beside that of yolo_nano."""
    short = [r for r in results if not r.name.startswith(FINAL)]
    final = [r for r in results if r.name.startswith(FINAL)]
    times = _times(final, options) if final else {}
    rows = [
        [
            r.name,
            f"{r.parameters / 1e6:.3f}",
            f"{r.facts['operations'] / 1e9:.2f}",
            f"{r.facts['bytes'] / 1e6:.2f}",
            f"{r.facts['proxy']:.2f}",
            f"{r.epochs}",
            f"{100 * r.ap50:.1f}",
            f"{_score(r):.1f}",
            f"{times[r.name]:.2f}" if r.name in times else "-",
        ]
        for r in results
    ]
    return Report(
        "Designs like YOLO Nano's",
        ("design", "M parameters", f"G operations @{SIDE}", "MB, 8-bit kernels", "proxy", "epochs",
         "AP50 (%)", "NetScore", "latency"),
        rows,
        [*_conclusion(final, options), _proxy_sentence(short)],
        partial(_draw, short, final),
        {"designs": {r.name: r.detector for r in results}},
    )  # fmt: skip


def _score(result: Result) -> float:
    cost = DesignCost(result.parameters, result.facts["operations"], result.facts["bytes"])
    return score_of(result, cost)


def _times(final: Sequence[Result], options: argparse.Namespace) -> Mapping[str, float]:
    detectors = {r.name: Variant.parse(r.detector) for r in final}
    return kept_ratios(options.out, detectors, 20, final[0].recipe["evaluation"]["size"])


def _conclusion(final: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """Compare the best final design with yolo_nano."""
    allowed = [r for r in final if 100 * r.ap50 >= options.least_ap]
    if len(allowed) < 2:
        return []
    best, base = max(allowed, key=_score), final[0]
    if best is base:
        return ["No design has a better NetScore than yolo_nano after equal training."]
    config = Variant.parse(best.detector).config
    assert isinstance(config, YoloNanoConfig)
    return [
        f"{best.name} has NetScore {_score(best):.1f}, yolo_nano {_score(base):.1f} after equal "
        f"training: AP50 {100 * best.ap50:.1f} against {100 * base.ap50:.1f} %, "
        f"{best.facts['operations'] / base.facts['operations']:.0%} of its operations, "
        f"{best.parameters / base.parameters:.0%} of its parameters.",
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


def _draw(short: Sequence[Result], final: Sequence[Result], axes: Any) -> None:
    for found, colour, label in ((short, INK, "short training"), (final, "tab:blue", "front")):
        axes.plot([r.facts["operations"] / 1e9 for r in found], [100 * r.ap50 for r in found], "o",
                  color=colour, label=label)  # fmt: skip
    for r in final[:1]:
        axes.plot(r.facts["operations"] / 1e9, 100 * r.ap50, "o", color="tab:red", label=NAME)
    axes.set_xlabel(f"G operations @{SIDE}")
    axes.set_ylabel("AP50 (%)")
    axes.legend(frameon=False)


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of this study."""
    add = parser.add_argument
    add("--generations", type=int, default=4, help="of designs [4]")
    add("--children", type=int, default=32, help="designs drawn in a generation [32]")
    add("--trained", type=int, default=4, help="of them that are trained [4]")
    add("--parents", type=int, default=4, help="designs that are changed [4]")
    add("--short", type=int, default=5, help="epochs of the trainings of the search [5]")
    add("--gigaops", type=float, default=5.0, help=f"1_r: most 10^9 operations @{SIDE} [5]")
    add("--megabytes", type=float, default=4.2, help="1_r: most MB of 8-bit kernels [4.2]")
    add("--least-ap", type=float, default=0.0, help="1_r: least AP50 in percent [0]")
    add("--draws", type=int, default=0, help="seed of the search [0]")
    add("--start", default="", help="weights of yolo_nano: .pt, ONNX or name [fresh ones]")


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

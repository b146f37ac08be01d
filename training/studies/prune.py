# SPDX-License-Identifier: Apache-2.0
"""Prune the channels of a trained detector layer by layer (Micro-YOLO, Hu et al., 2021, 4.2).

    python -m training.studies.prune --data street/data.yaml --out runs/prune --start micro_yolo
    python -m training.studies.prune --detector yolo_nano --data ... --out ... --start best.pt

The published algorithm: a layer loses 1/16 of the channels that it had in the beginning, keeps its
other weights, and all layers that read it are rewired; the network is retrained; if its AP is at
most 0.5 points below the one before this layer was pruned, the layer loses 1/16 more, else the last
accepted network is taken and the next layer is pruned.

A layer is a map that is passed on: what adds to it (shortcuts, depthwise convolutions) is pruned
with it, and the widths inside an inverted bottleneck or a channel attention stay the share of what
it reads that they are (``channel_graph``). Not published, and chosen here: the channels with the
smallest norms go; AP is AP50.

The result is the detector with the option ``channels``: its last.pt trains, exports and runs like
any other. torch-pruning, the library for this, changes modules in place and keeps them as pickles:
nothing that a recipe or a model card could say, so it is not used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np

from compact_yolo_ros.support.arguments import finite, whole_number
from compact_yolo_ros.support.terminal import say
from training.detectors.channel_graph import ChannelGraph
from training.detectors.variant import Variant
from training.loop.checkpoint import load_detector
from training.loop.trainer import Trainer
from training.studies.beginning import named_weights
from training.studies.command import QUICK, Command
from training.studies.member import Member, Result
from training.studies.report import INK, Report
from training.studies.study import Effort, Study
from training.weights.fewer_channels import Criterion, narrowed
from training.weights.origin import read_origin
from training.weights.starting import start

ORIGINAL = "original"
STEPS = 16
"""A layer loses one of so many parts of its channels at a time."""


@dataclass(frozen=True)
class Pruned:
    """A detector that has lost channels, and the training that gave its weights.

    Attributes:
        detector: with the option ``channels``.
        result: of the training.
    """

    detector: Variant
    result: Result


def layers(graph: ChannelGraph) -> dict[str, int]:
    """Return what can be pruned, in the order of computation, and the channels of each."""
    return {g.name: len(g.channels) for g in graph.groups.values() if not g.follows}


def widths(detector: Variant, num_classes: int) -> dict[str, int]:
    """Return the channels that each of ``layers`` has, without those that it has lost before."""
    whole, left = layers(detector.graph(num_classes)), dict(detector.channels)
    return {name: left.get(name, width) for name, width in whole.items()}


def without(detector: Variant, layer: str, count: int, num_classes: int) -> Variant:
    """Return a detector whose layer has fewer channels, and what follows its width, too.

    Args:
        detector: with or without the option ``channels``.
        layer: of ``layers``.
        count: channels to take away.
        num_classes: of the network.
    """
    graph = detector.graph(num_classes)
    left = {**layers(graph), **dict(detector.channels)}
    left = {name: width for name, width in left.items() if not graph.groups[name].follows}
    left[layer] -= count
    left |= graph.following({name: np.arange(width) for name, width in left.items()})
    whole = graph.widths()
    channels = tuple((name, left[name]) for name in whole if left[name] < whole[name])
    return replace(detector, channels=channels)


def prune(study: Study, options: argparse.Namespace) -> None:
    """Prune one layer after the other; see the head of the module.

    Raises:
        ValueError: a layer is unknown, there are several seeds, or the weights to start from cannot
            be used.
    """
    if len(study.seeds) > 1:
        raise ValueError("--seeds: each step begins with the weights of the last: give one seed")
    detector, classes = Variant.parse(options.detector), len(study.classes)
    known = widths(detector, classes)
    wanted = list(dict.fromkeys(options.layers or known))
    for name in wanted:
        if name not in known:
            raise ValueError(f"{name!r} is no layer of {detector}: give some of {', '.join(known)}")
    original = Member(
        ORIGINAL,
        detector,
        begin=partial(_begin, options.start) if options.start else None,
        origin=named_weights(options.start),
    )
    cost = study.cost_of_search([(original, 1 + len(wanted), "*")])
    say(study.console, f"{cost} A step that is accepted is followed by one more.")
    if options.plan:
        return
    accepted = Pruned(detector, study.train(original, study.seeds[0]))
    for name in wanted:
        accepted = _prune_layer(study, accepted, name, known[name], options)


def _begin(weights: str, trainer: Trainer) -> None:
    start(trainer, read_origin(weights, trainer.recipe.detector))


def _prune_layer(
    study: Study, accepted: Pruned, layer: str, width: int, options: argparse.Namespace
) -> Pruned:
    """Prune a layer until the AP falls too far; return the last accepted detector."""
    before, part = accepted.result.ap50, max(1, width // STEPS)
    limit = options.most or STEPS - 1
    for step in range(1, limit + 1):
        if width - step * part < 1:
            break
        detector = without(accepted.detector, layer, part, len(study.classes))
        folder = study.folder(accepted.result.name, study.seeds[0])
        result = study.train(
            Member(
                f"{layer}_{step}".replace("/", "-"),
                detector,
                begin=partial(_continue, folder / "last.pt", accepted.detector, options.criterion),
                origin=f"{accepted.result.name} by {options.criterion}",
                facts={
                    "layer": layer,
                    "channels": width - step * part,
                    "of": width,
                    "accepted_from": before,
                },
            ),
            study.seeds[0],
        )
        if not is_accepted(result, options.drop):
            break
        accepted = Pruned(detector, result)
    return accepted


def _continue(checkpoint: Any, before: Variant, by: Criterion, trainer: Trainer) -> None:
    network, _ = load_detector(checkpoint)
    trainer.model.load_state_dict(narrowed(network, before, trainer.recipe.detector, by))


def is_accepted(result: Result, drop: float) -> bool:
    """Return whether the AP50 has fallen by at most ``drop`` points since before the layer."""
    before = result.facts.get("accepted_from")
    return before is None or 100 * (before - result.ap50) <= drop


def last_accepted(results: Sequence[Result], drop: float) -> Result:
    """Return the detector that the pruning has come to."""
    return [result for result in results if is_accepted(result, drop)][-1]


def report(results: Sequence[Result], options: argparse.Namespace) -> Report:
    """Show every step, and what is left in the end."""
    rows = [
        [
            str(r.facts.get("layer", "-")),
            f"{r.facts['channels']} of {r.facts['of']}" if r.facts else "-",
            f"{r.parameters / 1e6:.3f}",
            f"{r.gmac:.4f}",
            f"{100 * r.ap50:.1f}",
            "yes" if is_accepted(r, options.drop) else "no",
        ]
        for r in results
    ]
    first, last = results[0], last_accepted(results, options.drop)
    size = last.recipe["evaluation"]["size"]
    said = (
        f"Of {first.parameters / 1e6:.3f} M parameters and {first.gmac:.3f} GMAC at {size} pixels, "
        f"{last.parameters / 1e6:.3f} M ({last.parameters / first.parameters:.0%}) and "
        f"{last.gmac:.3f} ({last.gmac / first.gmac:.0%}) are left; AP50 {100 * first.ap50:.1f} -> "
        f"{100 * last.ap50:.1f} %."
    )
    return Report(
        "Channel pruning",
        ("layer", "channels", "M parameters", f"GMAC @{size}", "AP50 (%)", "accepted"),
        rows,
        (said, f"The weights are in `{last.folder}/last.pt`. The detector: `{last.detector}`"),
        partial(_draw, results, options.drop),
        {"detector": last.detector, "checkpoint": f"{last.folder}/last.pt"},
    )


def _draw(results: Sequence[Result], drop: float, axes: Any) -> None:
    taken = [r for r in results if is_accepted(r, drop)]
    left = [r for r in results if not is_accepted(r, drop)]
    axes.plot([r.parameters / 1e6 for r in taken], [100 * r.ap50 for r in taken], "o-",
              color="tab:green", label="accepted")  # fmt: skip
    axes.plot([r.parameters / 1e6 for r in left], [100 * r.ap50 for r in left], "x", color=INK,
              label="not accepted")  # fmt: skip
    axes.set_xlabel("million parameters")
    axes.set_ylabel("AP50 (%)")
    axes.legend(frameon=False)


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of this study."""
    add = parser.add_argument
    add("--detector", default="micro_yolo", help="name or '{name: ...}' [micro_yolo]")
    add("--start", default="", help="weights of it: .pt, ONNX file or name of a model [fresh ones]")
    add(
        "--layers",
        nargs="+",
        action="extend",
        help="that are pruned [all, in the order of computation]",
    )
    add("--drop", type=finite, default=0.5, help="points of AP50 that a layer may cost [0.5]")
    add("--most", type=whole_number(0), default=0, help="most steps of a layer; 0: any number")
    add("--criterion", choices=get_args(Criterion), default="l1", help="of what is pruned [l1]")


COMMAND = Command(
    "prune",
    "Prune the channels of a detector, layer by layer.",
    report,
    prune,
    # "retrain 20 epochs" after every step.
    Effort("cpu_small", ("phases=[{epochs: 20, sizes: 416, mosaic: 0.5}]", "evaluation.size=416",
                         "evaluation.every=20")),
    replace(QUICK, changes=(*QUICK.changes, "phases=[{epochs: 2, sizes: 160}]",
                            "optimizer.rate=3e-4", "evaluation.every=2")),
    more,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(COMMAND.main())

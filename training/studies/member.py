# SPDX-License-Identifier: Apache-2.0
"""The trainings that a study is made of, and what came out of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.detectors.variant import Variant
from training.loop.trainer import Trainer

NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Member:
    """One training of a study.

    Attributes:
        name: of its folder and its row: letters, digits, ``_``, ``.`` and ``-``.
        detector: what is trained; changes of the recipe, as ``detector.neck=fpn``, come on top.
        changes: of the recipe, for this training only, as ``phases.0.frozen_blocks=3``.
        begin: gives a fresh trainer its first weights; None: random ones.
        origin: says in words where these come from, with a digest of each file: a training of
            another origin is not taken for this one.
        facts: plain values that the study knows before the training, for its table.
        hopeless: asked after every evaluation whether to end the training early; None: never.
    """

    name: str
    detector: Variant
    changes: tuple[str, ...] = ()
    begin: Callable[[Trainer], None] | None = None
    origin: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    hopeless: Callable[[Trainer], bool] | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot name a training")


def folder_of(name: str, seed: int) -> str:
    """Return the name of the folder of a member's training."""
    return name if seed == 0 else f"{name}_seed{seed}"


@dataclass(frozen=True)
class Result:
    """What a training has given; the content of ``result.json`` in its folder.

    Attributes:
        name, origin, facts: of its member.
        detector: its text.
        seed: of the training.
        parameters: of the network.
        gmac: 10^9 multiply-accumulates of an image of the evaluated size.
        images: training images.
        epochs: trained; fewer than the recipe's if it was ended early.
        seconds: of training, without evaluation.
        figures: of the averaged weights after the last epoch, as ``average_precision`` gives them:
            no epoch is chosen on the images that the figures are of.
        curve: epoch and AP50 of every evaluation.
        recipe: all its settings.
        data: digest of the images, labels and classes.
        stopped: because it was hopeless, before the end of its recipe.
    """

    name: str
    detector: str
    seed: int
    parameters: int
    gmac: float
    images: int
    epochs: int
    seconds: float
    figures: dict[str, float]
    curve: list[tuple[int, float]]
    recipe: dict[str, Any]
    origin: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    stopped: bool = False

    def __post_init__(self) -> None:
        if "AP50" not in self.figures:
            raise ValueError("it has no figure 'AP50'")

    @property
    def folder(self) -> str:
        """Name of the training's folder; ``last.pt`` in it has the weights."""
        return folder_of(self.name, self.seed)

    @property
    def ap50(self) -> float:
        """AP at an IoU of 0.5, 0 to 1."""
        return self.figures["AP50"]


@dataclass(frozen=True)
class Row:
    """A member with the mean over its seeds.

    Attributes:
        first: its first result, for what all have in common.
        figures: means of the results' figures.
        spread: largest less smallest AP50; 0 with one seed.
        seeds: how many there are.
        left_out: further seeds, whose trainings were stopped earlier, or that are still to come,
            while another member has been trained with them.
    """

    first: Result
    figures: dict[str, float]
    spread: float
    seeds: int
    left_out: int = 0

    @property
    def stopped(self) -> bool:
        """Whether no seed was trained to the end: its figures are not those of a whole training."""
        return self.first.stopped

    @property
    def ap50(self) -> float:
        """Mean AP50, 0 to 1."""
        return self.figures["AP50"]

    @property
    def ap50_text(self) -> str:
        """Mean AP50 in percent, with half of the spread if there are several seeds."""
        text = f"{100 * self.ap50:.1f}"
        if self.seeds > 1:
            text += f" ± {50 * self.spread:.1f}"
        if self.left_out:
            text += f" ({self.seeds} of {self.seeds + self.left_out} seeds)"
        return text


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Join the seeds of each member, in the order of the first results."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.name, []).append(result)
    seeds = max(map(len, groups.values()), default=0)
    return [_row(_alike(group), seeds) for group in groups.values()]


def _alike(group: Sequence[Result]) -> list[Result]:
    """Return those that were trained to the end; if none was, those that were trained longest."""
    longest = max(result.epochs for result in group)
    whole = [result for result in group if not result.stopped]
    return whole or [result for result in group if result.epochs == longest]


def _row(group: Sequence[Result], seeds: int) -> Row:
    found = [result.ap50 for result in group]
    names = group[0].figures
    means = {name: sum(r.figures[name] for r in group) / len(group) for name in names}
    return Row(group[0], means, max(found) - min(found), len(group), seeds - len(group))

# SPDX-License-Identifier: Apache-2.0
"""Designs of YOLO Nano: how one is changed, and what it costs.

A design is a ``YoloNanoConfig``. Its three scales, with the necks between them, are the skeleton
that stays; a change is of the macroarchitecture (a module more or less, of another kind) or of the
microarchitecture (channels, squeezed channels, expansion).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from numpy.random import Generator

from training.detectors.complexity import kernel_values, macs_by_size, parameters
from training.detectors.yolo_nano import Conv, Ep, Fca, Pep, Stage, YoloNano, YoloNanoConfig

Unit = Conv | Ep | Pep | Fca
SIDE = 416
"""Side in pixels of the input that operations are counted at, as published."""
EXPANSIONS = (1.0, 1.5, 2.0, 3.0, 4.0)
FACTORS = (0.6, 0.75, 0.85, 1.15, 1.3)
"""Of a width that is changed."""
STAGES = ("up16", "neck16", "up8", "neck8", "head16", "head32")
"""Stages after the trunk."""
READERS = {
    "trunk.0": ("trunk.1",),
    "trunk.1": ("trunk.2",),
    "trunk.2": ("trunk.3", "neck8"),
    "trunk.3": ("trunk.4", "neck16"),
    "trunk.4": ("up16", "head32"),
    "up16": ("neck16",),
    "neck16": ("up8", "head16"),
    "up8": ("neck8",),
    "neck8": ("outputs.0",),
    "head16": ("outputs.1",),
    "head32": ("outputs.2",),
}
"""What reads the channels of each stage: stages, and the last convolutions."""


@dataclass(frozen=True)
class DesignCost:
    """What a design costs.

    Attributes:
        parameters: of the network.
        operations: two for each multiply-accumulate of an image of SIDE pixels.
        bytes: of its kernels, 8 bits each.
    """

    parameters: int
    operations: int
    bytes: int


@dataclass(frozen=True)
class Limits:
    """The indicator 1_r of YOLO Nano's design, as far as it is known before a training.

    Attributes:
        operations: most at SIDE pixels.
        bytes: most of the 8-bit kernels.
    """

    operations: float = 5e9
    bytes: float = 4.2e6

    def allows(self, cost: DesignCost) -> bool:
        """Return whether a design may be trained."""
        return cost.operations <= self.operations and cost.bytes <= self.bytes


@lru_cache(maxsize=4096)
def cost_of(design: YoloNanoConfig) -> DesignCost:
    """Count a design; its weights are zero, as drawing them would take longer than the counting."""
    with torch.device("meta"):
        network = YoloNano(design)
    network.to_empty(device="cpu")
    for value in (*network.parameters(), *network.buffers()):
        value.data.zero_()
    operations = 2 * macs_by_size(network, (SIDE,))[SIDE]
    return DesignCost(parameters(network), operations, kernel_values(network))


def stages(design: YoloNanoConfig) -> dict[str, Stage]:
    """Return the stages by name: trunk.0 to trunk.4, then STAGES."""
    trunk = {f"trunk.{number}": stage for number, stage in enumerate(design.trunk)}
    return trunk | {name: getattr(design, name) for name in STAGES}


def with_stage(design: YoloNanoConfig, name: str, stage: Stage) -> YoloNanoConfig:
    """Return a design with another stage of that name."""
    if name in STAGES:
        changes: dict[str, Any] = {name: stage}
        return replace(design, **changes)
    place = int(name.removeprefix("trunk."))
    return replace(design, trunk=(*design.trunk[:place], stage, *design.trunk[place + 1 :]))


def mutated(
    design: YoloNanoConfig, rng: Generator, names: Sequence[str] = tuple(READERS)
) -> YoloNanoConfig:
    """Return a design with one random change.

    Args:
        design: to change.
        rng: draws.
        names: of the stages that may be changed.

    Raises:
        ValueError: the change is not possible there; another draw may be.
    """
    # Longer stages are changed more often.
    weights = [len(stages(design)[name]) for name in names]
    name = names[int(rng.choice(len(names), p=[w / sum(weights) for w in weights]))]
    stage = stages(design)[name]
    change = CHANGES[int(rng.integers(len(CHANGES)))]
    changed = change(stage, int(rng.integers(len(stage))), rng)
    found = with_stage(design, name, changed)
    if not changed or found == design:
        raise ValueError("nothing has changed")
    return found


def begins_fresh(name: str, changed: Sequence[str]) -> bool:
    """Return whether a value of a network is in a stage that is changed, or in one that reads it.

    Args:
        name: of the value in a state dict.
        changed: names of stages.
    """
    fresh = {*changed, *(reader for stage in changed for reader in READERS[stage])}
    return any(name.startswith(f"{module}.") for stage in fresh for module in _modules(stage))


def _modules(stage: str) -> list[str]:
    """Return the names of a stage's modules in the network of yolo_nano."""
    if not stage.startswith("trunk."):
        return [stage]
    trunk, place = YoloNanoConfig().trunk, int(stage.removeprefix("trunk."))
    begin = sum(map(len, trunk[:place])) - 1
    blocks = [f"backbone.blocks.{begin + n}" for n in range(len(trunk[place]))]
    return blocks if place else ["backbone.stem", *blocks[1:]]


def _without(stage: Stage, place: int, _: Generator) -> Stage:
    if getattr(stage[place], "stride", 1) != 1 or len(stage) == 1:
        raise ValueError("this module cannot be left out")
    return (*stage[:place], *stage[place + 1 :])


def _with_one_more(stage: Stage, place: int, rng: Generator) -> Stage:
    width = _width(stage, place)
    fresh: tuple[Unit, ...] = (Pep(width, max(4, width // 2)), Ep(width, 1, 1.0), Fca())
    return (*stage[: place + 1], fresh[int(rng.integers(len(fresh)))], *stage[place + 1 :])


def _of_another_kind(stage: Stage, place: int, rng: Generator) -> Stage:
    unit = stage[place]
    if isinstance(unit, Fca) or getattr(unit, "stride", 1) != 1:
        raise ValueError("this module keeps its kind")
    width = unit.outputs
    kinds: list[Unit] = [Conv(width), Ep(width, 1, 1.0), Pep(width, max(4, width // 2))]
    kinds = [kind for kind in kinds if kind.kind != unit.kind]
    return _put(stage, place, kinds[int(rng.integers(len(kinds)))])


def _of_another_width(stage: Stage, place: int, rng: Generator) -> Stage:
    """Change the outputs of a module, and of those beside it that have the same (residuals)."""
    unit, factor = stage[place], _drawn(FACTORS, rng)
    if isinstance(unit, Fca):
        raise ValueError("this module has no width")
    old = unit.outputs
    changed = [
        other
        if isinstance(other, Fca) or other.outputs != old
        else replace(other, outputs=_scaled(old, factor))
        for other in stage
    ]
    return tuple(changed)


def _of_another_inside(stage: Stage, place: int, rng: Generator) -> Stage:
    unit = stage[place]
    if isinstance(unit, Pep) and rng.random() < 0.5:
        squeezed = _scaled(unit.squeezed, _drawn(FACTORS, rng))
        return _put(stage, place, replace(unit, squeezed=squeezed))
    if isinstance(unit, Pep | Ep):
        return _put(stage, place, replace(unit, expansion=_drawn(EXPANSIONS, rng)))
    raise ValueError("this module has nothing inside to change")


CHANGES: tuple[Callable[[Stage, int, Generator], Stage], ...] = (
    _without,
    _with_one_more,
    _of_another_kind,
    _of_another_width,
    _of_another_width,
    _of_another_inside,
    _of_another_inside,
)
"""Three of the macroarchitecture, four draws of the microarchitecture."""


def _width(stage: Stage, place: int) -> int:
    """Return the channels after a module."""
    for unit in reversed(stage[: place + 1]):
        if not isinstance(unit, Fca):
            return unit.outputs
    raise ValueError("the width before the stage is not known here")


def _put(stage: Stage, place: int, unit: Unit) -> Stage:
    return (*stage[:place], unit, *stage[place + 1 :])


def _drawn(values: tuple[float, ...], rng: Generator) -> float:
    return values[int(rng.integers(len(values)))]


def _scaled(width: int, factor: float) -> int:
    return max(4, round(width * factor))


def text_of(design: YoloNanoConfig) -> str:
    """Return the modules of a design in short: ``P25 70`` is a PEP of 25 squeezed, 70 outputs."""
    shown = {Conv: "C", Ep: "E", Pep: "P", Fca: "F"}
    return " | ".join(
        " ".join(f"{shown[type(unit)]}{unit.outputs or ''}" for unit in stage)
        for stage in stages(design).values()
    )

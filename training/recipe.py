# SPDX-License-Identifier: Apache-2.0
"""What a training run does, as a frozen value read from a YAML file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from training.data.augmentation import Augmentation


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one input size.

    Attributes:
        epochs: passes over the training images.
        size: side of the square input in pixels.
        frozen_blocks: the backbone's stem and this many blocks get no gradient; 0 trains all.
        mosaic: probability of a mosaic.
    """

    epochs: int
    size: int
    frozen_blocks: int = 0
    mosaic: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Settings of one run. The learning rate warms up, then falls as a cosine over all phases.

    Attributes:
        phases: run one after the other.
        batch_size: images in a step.
        learning_rate: peak, of AdamW.
        backbone_rate: factor on it for the backbone.
        final_rate: share of the peak that is left at the end.
        weight_decay: on kernels; not on norms, biases and scalars.
        warmup_steps: steps of linear warm-up.
        ema_decay: of the averaged weights, which are evaluated and exported.
        fixed_norm: the backbone's batch norms keep the statistics they start with.
        also_above: see ``assign``; None is the paper's single best anchor.
        bfloat16: run the network in bfloat16 where it is safe (autocast).
        seed: of shuffling and augmentation.
        augmentation: see ``Augmentation``.
    """

    phases: tuple[Phase, ...]
    batch_size: int = 16
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0
    final_rate: float = 0.01
    weight_decay: float = 0.0
    warmup_steps: int = 200
    ema_decay: float = 0.998
    fixed_norm: bool = False
    also_above: float | None = None
    bfloat16: bool = False
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch (from 0) belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        raise IndexError("the recipe has ended")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``from_dict`` takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Build a recipe; ValueError names a key that does not exist or a missing one."""
        values = dict(values)
        phases = tuple(_build(Phase, phase) for phase in values.pop("phases", ()))
        if not phases:
            raise ValueError("a recipe needs at least one entry in 'phases'")
        augmentation = dict(values.pop("augmentation", {}))
        for name in ("scale", "mosaic_scale"):
            if name in augmentation:
                augmentation[name] = tuple(augmentation[name])
        return _build(
            cls, {**values, "phases": phases, "augmentation": _build(Augmentation, augmentation)}
        )

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a YAML file."""
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ValueError(f"{path} is not a recipe")
        return cls.from_dict(values)


def _build(kind: type, values: dict[str, Any]) -> Any:
    known = {f.name for f in fields(kind)}
    if unknown := set(values) - known:
        raise ValueError(
            f"unknown settings {sorted(unknown)}: {kind.__name__} knows {sorted(known)}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__} is incomplete: {error}") from None

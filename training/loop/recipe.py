# SPDX-License-Identifier: Apache-2.0
"""The recipe of a training run: a frozen dataclass, read from a YAML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compact_yolo_ros.model.sizes import MIN_SIDE, Size
from training.data.augmentation import Augmentation
from training.data.input_sizes import SettingsSize, as_size
from training.detectors.loss_settings import LossSettings
from training.detectors.registry import DETECTORS, find_detector
from training.detectors.variant import Variant, change, name_and_options, read_text
from training.settings.yaml_settings import from_plain, override, read_plain, to_plain

FixedNorm = Literal["none", "backbone", "all"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
DEFAULT_RECIPE = "cpu_small"
"""For every detector: few images and no GPU."""
PAPER = "paper"
"""Instead of a recipe's name: the training of the detector as published."""
DEFAULT_DETECTOR = "yolo_ret_m075"


@dataclass(frozen=True)
class Phase:
    """Epochs with the same settings.

    Attributes:
        epochs: passes over the training images.
        sizes: of the input in pixels, multiples of 32; one is drawn for every step. A number is the
            side of a square, ``320x256`` is width x height.
        fit: share of the steps of a square size whose images have like shapes, and whose input fits
            them instead of being the square: as at run time, the size is its long side.
        frozen_blocks: this many blocks of the backbone, and what is computed before them, are not
            trained; 0: all is trained; all blocks: the whole backbone is frozen.
        mosaic: probability of a mosaic.
        self_adversarial: probability that a step trains on images altered against the detector,
            instead of the images.
        adversarial_weight: weight of the loss of altered images, which every step adds to the loss
            of the images (YOLO-ReT); 0: none.
        rate: factor on the learning rate.
    """

    epochs: int
    sizes: tuple[SettingsSize, ...]
    frozen_blocks: int = 0
    mosaic: float = 0.0
    self_adversarial: float = 0.0
    rate: float = 1.0
    adversarial_weight: float = 0.0
    fit: float = 0.0

    def __post_init__(self) -> None:
        _require("epochs", self.epochs, self.epochs >= 1, "at least 1")
        sizes = tuple(SettingsSize(*as_size(size)) for size in self.sizes)
        object.__setattr__(self, "sizes", sizes)
        usable = sizes and all(side >= 32 and side % 32 == 0 for size in sizes for side in size)
        _require("sizes", [size.to_settings() for size in sizes], usable, "multiples of 32")
        _require("fit", self.fit, 0 <= self.fit <= 1, "from 0 to 1")
        squares = [size.width for size in sizes if size.width == size.height]
        fitting = not self.fit or (squares and all(side >= MIN_SIDE for side in squares))
        _require("sizes", squares, fitting, f"squares of at least {MIN_SIDE} for fit")
        _require("frozen_blocks", self.frozen_blocks, self.frozen_blocks >= 0, "0 or more")
        _require("mosaic", self.mosaic, 0 <= self.mosaic <= 1, "from 0 to 1")
        chance = self.self_adversarial
        _require("self_adversarial", chance, 0 <= chance <= 1, "from 0 to 1")
        _require("rate", self.rate, self.rate > 0, "above 0")
        weight = self.adversarial_weight
        fitting = 0 <= weight <= 10 and not (weight and chance)
        _require("adversarial_weight", weight, fitting, "from 0 to 10, without self_adversarial")


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer.

    Attributes:
        name: SGD with momentum, Adam (decay as L2), AdamW (decoupled decay), or Muon, which moves
            the kernels that connect channels in another way than AdamW (``muon.py``).
        rate: learning rate at its peak.
        backbone_rate: factor on it for the backbone.
        orthogonal_rate: factor on it for the kernels that Muon itself moves; of Muon.
        momentum: of SGD; Adam's beta1.
        weight_decay: on kernels; not on norms, biases and scalars.
        clip: largest norm of the gradient of all parameters together; null: any.
    """

    name: Literal["sgd", "adam", "adamw", "muon"] = "adamw"
    rate: float = 1e-3
    backbone_rate: float = 1.0
    orthogonal_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        _require("rate", self.rate, self.rate > 0, "above 0")
        _require("backbone_rate", self.backbone_rate, self.backbone_rate >= 0, "0 or more")
        factor = self.orthogonal_rate
        read = factor == 1 or self.name == "muon"
        _require("orthogonal_rate", factor, factor > 0 and read, "above 0, with name: muon")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        _require("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _require("clip", self.clip, self.clip is None or self.clip > 0, "above 0, or null")


@dataclass(frozen=True)
class ScheduleSettings:
    """The schedule of the learning rate.

    Attributes:
        name: "cosine" falls from 1 to ``final``; "steps" multiplies by each of ``scales`` once the
            share of the run in ``steps`` is done; "constant" stays.
        warmup_steps: optimizer steps of warm-up at the beginning of the run.
        warmup_power: 1 is a linear warm-up, 4 darknet's burn-in.
        final: share of the rate that a cosine ends at.
        steps: ascending shares of the run, 0 to 1.
        scales: factors, one for each of ``steps``.
        restart: the schedule starts again in every phase.
        minutes: the longest training from its first step on, all starts together: where they pass
            faster than the epochs, phases and rate follow them, so that a run on a borrowed GPU
            ends as it should. 0: no limit. Such a run is not repeated exactly.
    """

    name: Literal["cosine", "steps", "constant"] = "cosine"
    warmup_steps: int = 0
    warmup_power: float = 1.0
    final: float = 0.0
    steps: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    restart: bool = False
    minutes: float = 0.0

    def __post_init__(self) -> None:
        _require("minutes", self.minutes, self.minutes >= 0, "0 or more")
        _require("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "0 or more")
        _require("warmup_power", self.warmup_power, self.warmup_power > 0, "above 0")
        _require("final", self.final, 0 <= self.final <= 1, "from 0 to 1")
        read = self.name == "cosine" or not self.final
        _require("final", self.final, read, "0 unless the name is cosine")
        ascending = sorted(self.steps) == list(self.steps) and all(0 <= s < 1 for s in self.steps)
        _require("steps", list(self.steps), ascending, "ascending, from 0 to below 1")
        paired = len(self.steps) == len(self.scales) and (self.name == "steps") == bool(self.steps)
        _require("scales", list(self.scales), paired, "one for each of steps, with name steps only")


@dataclass(frozen=True)
class EvaluationSettings:
    """How the averaged weights are evaluated on the split ``val`` during the run.

    Attributes:
        every: epochs between evaluations; the last epoch is always evaluated.
        size: side of the evaluated square input in pixels.
        fit: the size is the long side of an input that fits each image, as at run time.
        metric: selects best.pt: AP, AP50, AP75, VOC07, VOC, or "AP50 <class>".
        patience: epochs without a better value after which the run stops, with the next
            evaluation; null: never.
    """

    every: int = 1
    size: int = 320
    metric: str = "AP"
    patience: int | None = None
    fit: bool = False

    def __post_init__(self) -> None:
        _require("every", self.every, self.every >= 1, "at least 1")
        fitting = self.size >= 160 and self.size % 32 == 0
        _require("size", self.size, fitting, "a multiple of 32, at least 160")
        patient = self.patience is None or self.patience >= 1
        _require("patience", self.patience, patient, "at least 1, or null")


@dataclass(frozen=True)
class DistillationSettings:
    """What is learnt of a teacher's feature maps, beside the labels (``feature_distillation``).

    Attributes:
        teacher: a checkpoint (.pt), or the path or name of a model, of any classes; empty: none.
        weight: of 1 - r, summed over the strides.
    """

    teacher: str = ""
    weight: float = 60.0

    def __post_init__(self) -> None:
        _require("weight", self.weight, self.weight > 0, "above 0")


@dataclass(frozen=True)
class Recipe:
    """Settings of one run.

    Attributes:
        detector: a name of the registry, or a mapping of one and options (``Variant``).
        phases: in the order in which they are trained.
        batch_size: images in an optimizer step, of all processes together.
        accumulate: number of parts that a step is computed in, to save memory (darknet's
            subdivisions).
        optimizer, schedule, evaluation: see there.
        loss: see ``LossSettings``.
        distillation: see ``DistillationSettings``.
        augmentation: see ``Augmentation``.
        adversarial_step: largest change of a pixel in self-adversarial training, as a share of 255.
        ema_decay: of the averaged weights, which are evaluated and exported; 0: no average.
        dropout: probability, where the detector has dropout; null: its own.
        fixed_norm: batch norms whose statistics stay as they are: none, of the backbone, or all.
        precision: of the network's forward and backward pass (Lightning Fabric's names).
        quantisation_aware: train with the rounding of INT8 inference.
        seed: of first weights, shuffling, augmentation and dropout.
    """

    phases: tuple[Phase, ...]
    detector: Variant = field(default_factory=lambda: Variant.from_settings(DEFAULT_DETECTOR))
    batch_size: int = 16
    accumulate: int = 1
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    adversarial_step: float = 0.03
    ema_decay: float = 0.998
    dropout: float | None = None
    fixed_norm: FixedNorm = "none"
    precision: Precision = "32-true"
    quantisation_aware: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _require("phases", [], bool(self.phases), "at least one phase")
        _require("accumulate", self.accumulate, self.accumulate >= 1, "at least 1")
        fitting = self.batch_size >= 1 and self.batch_size % self.accumulate == 0
        _require("batch_size", self.batch_size, fitting, "a positive multiple of accumulate")
        step = self.adversarial_step
        _require("adversarial_step", step, 0 < step <= 1, "above 0, up to 1")
        _require(
            "dropout", self.dropout, 0 <= (self.dropout or 0) < 1, "from 0 to below 1, or null"
        )
        _require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "from 0 to below 1")
        _require("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2^63 - 1")

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def view_pixels(self) -> Size:
        """The size of the largest letterboxed image in a view, at its largest zoom or twice.

        An image of this size is enlarged in no view. One that is larger is that of a camera.
        """
        zoom = self.augmentation.largest_zoom(any(phase.mosaic for phase in self.phases))
        sizes = [size for phase in self.phases for size in phase.sizes]
        widest, highest = (max(sides) for sides in zip(*sizes, strict=True))
        return Size(*(math.ceil(max(2.0, zoom) * side) for side in (widest, highest)))

    def phase_index(self, epoch: int) -> tuple[int, int]:
        """Return the number of the phase of an epoch (from 0), and the first epoch of that phase.

        Raises:
            IndexError: the recipe has fewer epochs.
        """
        first = 0
        for index, phase in enumerate(self.phases):
            if epoch < first + phase.epochs:
                return index, first
            first += phase.epochs
        raise IndexError("the recipe has ended")

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch (from 0) belongs to."""
        return self.phases[self.phase_index(epoch)[0]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``from_dict`` takes them."""
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Build a recipe from plain values.

        Raises:
            ValueError: a key is unknown, missing or has a wrong value; the sentence names it.
        """
        return from_plain(cls, values)

    @classmethod
    def read(cls, path: Path, assignments: Sequence[str] = (), detector: str = "") -> Recipe:
        """Read a recipe from a YAML file. If it says nothing of the loss, the detector's own holds.

        Args:
            path: the file.
            assignments: changes, as ``optimizer.rate=1e-3``.
            detector: replaces the file's, as ``Variant.parse`` takes it; empty: the file's.

        Raises:
            ValueError: the recipe cannot be used; the sentence begins with the file.
        """
        values = read_plain(path)
        own_loss = "loss" not in values
        try:
            if detector:
                values["detector"] = read_text(detector)
            _override(values, assignments)
            if own_loss and isinstance(changes := values.get("loss", {}), dict):
                values["loss"] = _loss_of(values.get("detector")) | changes
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def find_recipe(name: str, detector: str = "") -> Path:
    """Return the file of a recipe.

    Args:
        name: a file, the name of one in ``training/recipes``, or ``paper``: the training of
            ``detector`` as published.
        detector: as ``Variant.parse`` takes it.

    Raises:
        ValueError: there is no such recipe.
    """
    if name == PAPER:
        if not detector:
            raise ValueError("the recipe 'paper' is that of a detector: name it with --detector")
        name = find_detector(Variant.parse(detector).name).recipe
        if not name:
            raise ValueError(
                f"no training of {detector} was published: give --recipe {DEFAULT_RECIPE} or a file"
            )
    if Path(name).suffix:
        return Path(name)
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise ValueError(f"there is no recipe {name!r}: give a file, paper, or one of {known}")
    return path


def _override(values: dict[str, Any], assignments: Sequence[str]) -> None:
    """Change plain settings in place; options of the detector begin with what it has."""
    for assignment in assignments:
        if assignment.startswith("detector."):
            values["detector"] = change(values.get("detector", DEFAULT_DETECTOR), [assignment])
        else:
            override(values, [assignment])


def _loss_of(detector: Any) -> dict[str, Any]:
    """Return the loss of a detector's row as plain values; empty if there is no such detector."""
    spec = DETECTORS.get(name_and_options(detector or DEFAULT_DETECTOR)[0])
    return to_plain(spec.loss) if spec else {}


def _require(name: str, value: Any, holds: object, meaning: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} must be {meaning}, not {value!r}")

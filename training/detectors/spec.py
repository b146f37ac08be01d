# SPDX-License-Identifier: Apache-2.0
"""The row of a detector's name: all that is known about it, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.interface import Detector
from training.detectors.loss_settings import LossSettings


class DetectorConfig(Protocol):
    """A frozen dataclass of plain values: the options of a family, with these two among them."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def num_classes(self) -> int:
        """Classes that it is built for by default."""

    @property
    def grid(self) -> AnchorGrid:
        """Its anchors and strides."""


Config = TypeVar("Config", bound=DetectorConfig)


@dataclass(frozen=True)
class DetectorSpec(Generic[Config]):
    """One detector: a name, a network and its options, and how it is trained.

    Everything that knows detectors by name reads these rows: the description and its page, the
    export, recipes, checkpoints, the benchmark's published figures, and the tests.

    Attributes:
        name: as recipes, checkpoints and model cards say it.
        build: makes the network of a configuration, with fresh weights.
        config: the options that the name stands for.
        loss: what it is trained with if the recipe does not say; for a published detector, what
            was published.
        recipe: file of ``training/recipes`` (without .yaml) with its training as published, which
            ``--recipe paper`` takes; empty: none is known.
        published: figures of the publication; None: there are none.
    """

    name: str
    build: Callable[[Config], Detector]
    config: Config
    loss: LossSettings = field(default_factory=LossSettings)
    recipe: str = ""
    published: Published | None = None

    def make(self, **changes: Any) -> Detector:
        """Build the detector with fresh weights; ``changes`` replace fields of ``config``."""
        return self.build(replace(self.config, **changes))

# SPDX-License-Identifier: Apache-2.0
"""The weights of a detector that training starts from, or that are used otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from torch import Tensor

from compact_yolo_ros.model.store import find_model
from training.detectors.interface import Detector
from training.detectors.variant import Variant
from training.loop.checkpoint import fill, load_checkpoint
from training.quantisation.quantisation_aware import plain_weights
from training.weights.fewer_channels import narrowed
from training.weights.from_onnx import read_exported, variant_of
from training.weights.more_channels import widened


class Origin(NamedTuple):
    """Weights to start from, of any classes.

    Attributes:
        detector: they are of.
        classes: the classes that they were trained for.
        state: state dict of the detector.
        folded: whether the norms are identities, because they were folded into the convolutions.
        same_grid: whether the boxes mean what they meant: the detector has the same anchors.
    """

    detector: Variant
    classes: Sequence[str]
    state: Mapping[str, Tensor]
    folded: bool
    same_grid: bool = True

    def build(self, weights: str) -> Detector:
        """Build the detector with these weights, which were read from ``weights``.

        Raises:
            ValueError: they are of another network.
        """
        network = self.detector.build(len(self.classes))
        fill(network, self.state, Path(weights))
        return network


def read_origin(weights: str, detector: Variant, chosen: bool = True) -> Origin:
    """Read the weights to start from.

    Args:
        weights: a checkpoint (.pt), or the path or name of a model.
        detector: to start.
        chosen: the user can choose another one with ``--detector``.

    Raises:
        ValueError: they cannot be found or read, or are of another detector that is not the same
            with more or fewer channels.
    """
    origin = read_weights(weights)
    return origin if origin.detector == detector else _resized(origin, detector, weights, chosen)


def read_weights(weights: str) -> Origin:
    """Read weights, and what they are of.

    Args:
        weights: a checkpoint (.pt), or the path or name of a model.

    Raises:
        ValueError: they cannot be found or read.
    """
    if weights.endswith(".pt"):
        content = load_checkpoint(Path(weights))
        variant = Variant.from_settings(content["detector"], f"{weights}: detector")
        folded = bool(content.get("folded"))
        return Origin(variant, content["classes"], plain_weights(content["average"]), folded)
    path = find_model(weights).path
    model, card = read_exported(path)
    return Origin(variant_of(card, path), card.classes, model.state_dict(), True)


def _resized(origin: Origin, detector: Variant, weights: str, chosen: bool) -> Origin:
    """Return what a detector takes over from the same network with more or fewer channels."""
    network = origin.build(weights)
    for resized in (widened, narrowed):
        with suppress(ValueError):
            state = resized(network, origin.detector, detector)
            same_grid = origin.detector.config.grid == detector.config.grid
            return origin._replace(detector=detector, state=state, same_grid=same_grid)
    hint = f": give --detector {quote(str(origin.detector))}"
    raise ValueError(
        f"{weights} is a {origin.detector}, the recipe trains {detector}, which is not the "
        f"same with more or fewer channels{hint if chosen else ''}"
    )

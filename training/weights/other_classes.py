# SPDX-License-Identifier: Apache-2.0
"""Start a detector from weights of the same detector that were trained for other classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.detectors.interface import Network
from training.detectors.variant import Variant
from training.loop.checkpoint import shapes

# Channels of an anchor before those of the classes: centre, size and objectness.
BOX_CHANNELS = 5


def start_from(
    model: Network,
    detector: Variant,
    state: Mapping[str, Tensor],
    old_classes: Sequence[str],
    classes: Sequence[str],
) -> list[str]:
    """Copy the values that fit into a detector.

    Channels that belong to classes are copied by the name of the class; those of new classes stay
    as they are.

    Args:
        model: the detector, built for ``classes``; changed in place.
        detector: it was built of.
        state: of the same detector, built for ``old_classes``.
        old_classes: class names.
        classes: class names.

    Returns:
        The names of the values that were not copied, because they are missing in ``state`` or have
        another shape.

    Raises:
        ValueError: no value fits.
    """
    own = model.state_dict()
    one_more = _shapes(detector, len(classes) + 1)
    per_cell = model.grid.per_cell
    old_places, places = _channels(per_cell, old_classes, classes)
    change = per_cell * (len(old_classes) - len(classes))
    not_copied, fitting = [], 0
    for name, target in own.items():
        larger = one_more.get(name, target.shape)
        by_class = [d for d, size in enumerate(target.shape) if size != larger[d]]
        expected = [size + change * (d in by_class) for d, size in enumerate(target.shape)]
        source = state.get(name)
        if source is None or list(source.shape) != expected:
            not_copied.append(name)
            continue
        fitting += target.ndim > 1
        old_width, width = (per_cell * (BOX_CHANNELS + len(c)) for c in (old_classes, classes))
        for d in by_class:
            # Where other channels share the dimension (a concatenation), those of classes are last.
            source = source.index_select(d, _within(source.shape[d] - old_width, old_places))
        indices = [(d, _within(target.shape[d] - width, places)) for d in by_class]
        targets = [(d, index.to(target.device)) for d, index in indices]
        _place(target, source.to(target), targets)
    if not fitting:
        raise ValueError(f"no weights to start from fit {detector}: they are of another detector")
    return not_copied


def summary(names: Sequence[str], new_classes: Sequence[str]) -> str:
    """Return one line about what was not copied.

    Args:
        names: of the values that were not copied; many are counted by the part they are in.
        new_classes: classes whose outputs start fresh.
    """
    if len(names) > 12:
        parts = Counter(name.split(".")[0] for name in names)
        names = [f"{count} of {part}" for part, count in parts.items()]
    fresh = [*names, *([f"outputs of {', '.join(new_classes)}"] if new_classes else [])]
    return f"Not copied, fresh: {', '.join(fresh)}." if fresh else "All weights were copied."


def _shapes(detector: Variant, num_classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = detector.build(num_classes)
    return shapes(model.state_dict())


def _channels(
    per_cell: int, old_classes: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Return the channels that the old and the new output have in common, in the same order."""
    shared = [(old_classes.index(c), n) for n, c in enumerate(classes) if c in old_classes]
    rows = [(i, i) for i in range(BOX_CHANNELS)]
    rows += [(BOX_CHANNELS + old, BOX_CHANNELS + new) for old, new in shared]
    widths = (BOX_CHANNELS + len(old_classes), BOX_CHANNELS + len(classes))
    old_places, places = (
        [anchor * width + row[side] for anchor in range(per_cell) for row in rows]
        for side, width in enumerate(widths)
    )
    return old_places, places


def _within(before: int, channels: Sequence[int]) -> Tensor:
    """Return indices of a dimension: all of the ``before`` first, then ``channels``."""
    return torch.tensor([*range(before), *(before + channel for channel in channels)])


def _place(target: Tensor, source: Tensor, indices: Sequence[tuple[int, Tensor]]) -> None:
    """Write ``source`` to the given indices of some dimensions of ``target``."""
    if not indices:
        target.copy_(source)
        return
    (dimension, index), *rest = indices
    part = target.index_select(dimension, index)
    _place(part, source, rest)
    target.index_copy_(dimension, index, part)

# SPDX-License-Identifier: Apache-2.0
"""Whether a run can continue from a checkpoint: whether that is of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.detectors.variant import Variant
from training.loop.recipe import EvaluationSettings, Recipe


def check_continues(
    state: Mapping[str, Any],
    recipe: Recipe,
    classes: Sequence[str],
    images: int,
    digest: str,
    replan: bool,
) -> None:
    """Raise ValueError unless a checkpoint is of the run that is to continue.

    Args:
        state: the checkpoint.
        recipe: of the run, as the following ones.
        classes: that it is trained for.
        images: number of its training images.
        digest: of these and their labels; empty if it is not known.
        replan: allow another recipe, or other images.

    Raises:
        ValueError: the checkpoint has weights alone, is of another detector, other classes or
            another setting of ``quantisation_aware`` or another size of the evaluation, or of
            another recipe or data set without ``replan``.
    """
    if not {"recipe", "model", "optimizer"} <= set(state):
        raise ValueError(
            "the checkpoint has weights alone, as best.pt, from which no run can continue: move"
            " it, and give it as --start"
        )
    detector = Variant.from_settings(state["detector"])
    if detector != recipe.detector:
        raise ValueError(f"the checkpoint is of another detector, {detector}: give a new --out")
    if tuple(state["classes"]) != tuple(classes):
        raise ValueError("the checkpoint is of other classes: give a new --out")
    old = state["recipe"]
    if old.get("quantisation_aware", False) != recipe.quantisation_aware:
        raise ValueError(
            "quantisation_aware cannot change within a run: give a new --out, and this run's"
            " best.pt as --start"
        )
    if not _measured_alike(old, recipe):
        raise ValueError(
            "evaluation.size, .fit and .metric cannot change within a run, whose best epoch they"
            " tell: give a new --out, and this run's last.pt as --start"
        )
    if replan:
        return
    if not same_recipe(old, recipe):
        raise ValueError(
            "the checkpoint was made with another recipe: give --replan or a new --out"
        )
    if state.get("images", images) != images:
        raise ValueError(
            f"the checkpoint was made with {state['images']} training images, not {images}: "
            "give --replan or a new --out"
        )
    known = state.get("data", "") and digest  # not in checkpoints of earlier versions
    if known and state["data"] != digest:
        raise ValueError(
            "the checkpoint was made with other training images or labels: give --replan or a "
            "new --out"
        )


def _measured_alike(old: Mapping[str, Any], recipe: Recipe) -> bool:
    """Return whether epochs of a written recipe can be compared with those of ``recipe``."""
    usual, own = EvaluationSettings(), recipe.evaluation
    before = old.get("evaluation", {})
    names = "size", "fit", "metric"
    return all(before.get(name, getattr(usual, name)) == getattr(own, name) for name in names)


def same_recipe(old: dict[str, Any], recipe: Recipe) -> bool:
    """Return whether a written recipe is ``recipe``; settings that it does not have are unset."""
    try:
        return Recipe.from_dict(old) == recipe
    except ValueError:
        return False

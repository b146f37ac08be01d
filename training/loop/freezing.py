# SPDX-License-Identifier: Apache-2.0
"""What a phase of a recipe trains, and what it freezes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.detectors.interface import Backbone, Detector, Module
from training.loop.recipe import FixedNorm, Phase


def set_phase(model: Detector, phase: Phase, fixed_norm: FixedNorm) -> None:
    """Choose what is trained, and which batch norms keep their statistics.

    Args:
        model: the detector, changed in place.
        phase: says how many blocks of the backbone are frozen.
        fixed_norm: batch norms that keep the statistics they have, though they are trained.
    """
    model.train().requires_grad_(True)
    if fixed_norm != "none":
        fixed: Module = model if fixed_norm == "all" else model.backbone
        for module in fixed.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    for part in frozen_parts(model.backbone, phase.frozen_blocks):
        part.eval().requires_grad_(False)


def frozen_parts(backbone: Backbone, blocks: int) -> Sequence[Module]:
    """Return what a phase freezes.

    Args:
        backbone: of the detector.
        blocks: how many of its blocks, with what is computed before them; all of them freeze the
            whole backbone.
    """
    if blocks == 0:
        return []
    stem: list[nn.Module] = []
    counted = list(backbone.children())
    named = dict(backbone.named_children()).get("blocks")
    if named is not None:
        stem, counted = counted[: counted.index(named)], list(named.children())
    return [backbone] if blocks >= len(counted) else [*stem, *counted[:blocks]]

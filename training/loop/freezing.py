# SPDX-License-Identifier: Apache-2.0
"""What a phase of a recipe trains, and what it freezes."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn.modules.batchnorm import _BatchNorm

from training.detectors.interface import Backbone, Detector, Module
from training.loop.recipe import FixedNorm, Phase


def set_phase(model: Detector, phase: Phase, fixed_norm: FixedNorm) -> None:
    """Choose what is trained, and which batch norms keep their statistics."""
    model.train().requires_grad_(True)
    if fixed_norm != "none":
        fixed: Module = model if fixed_norm == "all" else model.backbone
        for module in fixed.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    for part in frozen_parts(model.backbone, phase.frozen_blocks):
        part.eval().requires_grad_(False)


def frozen_parts(backbone: Backbone, blocks: int) -> Sequence[Module]:
    """Return the first ``blocks`` blocks and what lies before them; all for the last block."""
    if blocks >= len(backbone.blocks):
        return [backbone]
    if blocks == 0:
        return []
    children = list(backbone.children())
    return [*children[: children.index(backbone.blocks)], *backbone.blocks[:blocks]]

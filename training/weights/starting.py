# SPDX-License-Identifier: Apache-2.0
"""Give a fresh trainer the weights that it starts from."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from training.data.loading import epoch_batches
from training.detectors.blocks import ConvNormAct
from training.loop.trainer import Trainer
from training.weights.backbone_file import (
    BackboneWeights,
    fill_backbone,
    loaded_modules,
    transferred,
)
from training.weights.from_onnx import measure_norms
from training.weights.origin import Origin
from training.weights.other_classes import start_from, summary

# Images that the statistics of norms are measured on which were folded.
MEASURED = 64
OTHER_GRID = "Their anchors (grid) are others: boxes have wrong sizes until these are learnt."


def start_backbone(
    trainer: Trainer, weights: BackboneWeights, path: Path, blocks: int | None = None
) -> str:
    """Load a backbone, or what comes before its blocks and the first ``blocks`` of them.

    Norms that were folded get the statistics of training images: the function stays the same, also
    for training with norms that follow their batches.

    Returns:
        One line about what was loaded.

    Raises:
        ValueError: see ``fill_backbone``.
    """
    backbone = trainer.model.backbone
    fill_backbone(backbone, weights, path, blocks)
    if weights.folded:
        loaded = loaded_modules(backbone, blocks)
        units = [module for module in loaded if isinstance(module, ConvNormAct)]
        measure_norms(backbone, first_images(trainer), units)
    trainer.begin_average()
    share = transferred(backbone, blocks) / sum(p.numel() for p in trainer.model.parameters())
    what = "the backbone" if blocks is None else f"{blocks} blocks of the backbone"
    return f"Loaded {what} of {path}: {share:.0%} of the detector's parameters."


def start(trainer: Trainer, origin: Origin) -> str:
    """Give a trainer the weights of ``origin``; return one line about what was not copied."""
    detector, classes = trainer.recipe.detector, origin.classes
    left = start_from(trainer.model, detector, origin.state, classes, trainer.classes)
    if origin.folded:
        # Where something was not copied, there is no function to keep: the norms stay fresh.
        fresh = {name.rsplit(".", 2)[0] for name in left}
        units = [
            module
            for name, module in trainer.model.named_modules()
            if isinstance(module, ConvNormAct) and name not in fresh
        ]
        measure_norms(trainer.model, first_images(trainer), units)
    trainer.begin_average()
    text = summary(left, [name for name in trainer.classes if name not in classes])
    return text if origin.same_grid else f"{text} {OTHER_GRID}"


def first_images(trainer: Trainer) -> Tensor:
    """Return views (N, 3, H, W) of training images, RGB in 0..1, as the first phase has them."""
    recipe = trainer.recipe
    phase, count = recipe.phases[0], min(MEASURED, len(trainer.samples))
    batches = epoch_batches(
        trainer.samples,
        phase.sizes[-1:],
        count,
        recipe.augmentation,
        0.0,
        (recipe.seed, 0),
        workers=0,
    )
    images = next(iter(batches)).images.to(trainer.fabric.device)
    return images.permute(0, 3, 1, 2).float() / 255

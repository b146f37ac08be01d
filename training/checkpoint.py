# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from compact_yolo_ros.files import replacing
from training.detectors.registry import build
from training.quantisation.fake import prepare


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; a reader sees the old file or the new one, never a part."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it is run. ValueError if it is not one of this trainer."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not {"detector", "classes", "average"} <= set(content):
        raise ValueError(f"{path} is not a checkpoint of training.train")
    return content


def load_detector(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the averaged detector of a checkpoint, in evaluation mode, and the checkpoint.

    One that was trained for INT8 rounds, as it did in training.
    """
    content = load_checkpoint(path)
    model = build(content["detector"], num_classes=len(content["classes"]))
    if content.get("recipe", {}).get("quantisation_aware"):
        prepare(model)
    model.load_state_dict(content["average"])
    return model.eval(), content

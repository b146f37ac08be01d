# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that a run needs to continue exactly where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.files import replacing
from training.detectors.interface import Detector, Module
from training.detectors.variant import Variant
from training.quantisation.quantisation_aware import prepare


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # raised by PyTorch for a full disk, too
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error


def read_tensors(path: Path) -> Any:
    """Read a file of torch.save without running code in it.

    Raises:
        ValueError: it is missing, damaged, or no such file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # any: the reader takes the bytes of a foreign file for instructions
        raise ValueError(f"{path} is damaged, or no file of PyTorch") from None


def fill(module: Module, state: Mapping[str, Any], path: Path) -> None:
    """Load a state dict that was read from ``path``.

    Raises:
        ValueError: it is of another network.
    """
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError):
        raise ValueError(f"the weights in {path} are of another network") from None


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a state dict, by name."""
    return {name: value.shape for name, value in state.items()}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code in it.

    Raises:
        ValueError: it is damaged, or not a checkpoint of this trainer.
    """
    content = read_tensors(path)
    if not isinstance(content, dict) or not _is_checkpoint(content):
        raise ValueError(f"{path} is not a checkpoint of training.train")
    return content


def _is_checkpoint(content: dict[str, Any]) -> bool:
    """Return whether a file has what every checkpoint has, in the form that is written."""
    classes, average = content.get("classes"), content.get("average")
    return (
        "detector" in content
        and isinstance(classes, list | tuple)
        and all(isinstance(name, str) for name in classes)
        and isinstance(average, dict)
        and all(isinstance(value, Tensor) for value in average.values())
        and isinstance(content.get("recipe", {}), dict)
    )


def load_detector(path: Path) -> tuple[Detector, dict[str, Any]]:
    """Return the averaged detector of a checkpoint, and the content of the checkpoint.

    The detector is in evaluation mode. One that was trained for INT8 rounds as it did in training.

    Raises:
        ValueError: the checkpoint cannot be used.
    """
    content = load_checkpoint(path)
    try:
        model = Variant.from_settings(content["detector"]).build(len(content["classes"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if content.get("recipe", {}).get("quantisation_aware"):
        prepare(model)
    fill(model, content["average"], path)
    return model.eval(), content

# SPDX-License-Identifier: Apache-2.0
"""The optimizers of the papers, over groups of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from training.detectors.interface import Detector
from training.loop.muon import Muon
from training.loop.recipe import OptimizerSettings


def make_optimizer(
    model: Detector,
    settings: OptimizerSettings,
    scaled: bool = False,
    others: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """Return the optimizer of the settings, over the groups of ``parameter_groups``.

    Args:
        model: what is trained, where it stays.
        settings: of the optimizer.
        scaled: the gradients are scaled, as in float16.
        others: parameters outside the model that are trained along, without weight decay.
    """
    groups = parameter_groups(model, settings)
    if others := list(others):
        groups.append({"params": others, "weight_decay": 0.0, "peak": settings.rate})
    # Fused, a step takes a third of the time. On a GPU, Fabric cannot clip scaled gradients of a
    # fused optimizer.
    fused = not scaled or all(parameter.device.type == "cpu" for parameter in model.parameters())
    if settings.name == "sgd":
        # The same as darknet's update, whose gradient is the sum over the batch and whose rate is
        # divided by its size.
        sgd = torch.optim.SGD(groups, lr=settings.rate, momentum=settings.momentum, fused=fused)
        for group in groups:
            for parameter in group["params"]:
                # As PyTorch begins it, also for those that are frozen at first: a fused step of
                # PyTorch 2 fails where only some of a group have one.
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    betas = (settings.momentum, 0.999)
    if settings.name == "muon":
        # Fused, it would leave the scale in the gradients for AdamW's kernel to undo.
        return Muon(groups, lr=settings.rate, betas=betas, fused=not scaled)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.rate, betas=betas, fused=fused)


def parameter_groups(model: Detector, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: by backbone or not, and by kernels or other values.

    Only kernels have weight decay. ``peak`` of a group is its learning rate before the schedule.
    Muon moves the kernels that connect channels: those of depthwise convolutions do not.
    """
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_kernel = parameter.ndim > 1
        orthogonal = settings.name == "muon" and is_kernel and parameter.shape[1] > 1
        key = (name.startswith("backbone."), is_kernel, orthogonal)
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay * is_kernel,
            "peak": settings.rate
            * (settings.backbone_rate if in_backbone else 1.0)
            * (settings.orthogonal_rate if orthogonal else 1.0),
            **({"orthogonal": True} if orthogonal else {}),
        }
        for (in_backbone, is_kernel, orthogonal), parameters in groups.items()
    ]


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor

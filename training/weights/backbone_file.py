# SPDX-License-Identifier: Apache-2.0
"""A file with the weights of a backbone, which says what it is of and how it pads.

The maps of a network that was trained with TensorFlow's padding are others with even padding, by
most of their variance, and no shape tells the two apart: so the file does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Backbone, Module
from training.detectors.variant import Variant
from training.loop.checkpoint import read_tensors, save_checkpoint


@dataclass(frozen=True)
class BackboneWeights:
    """Weights of a backbone.

    Attributes:
        name: what they are of, for messages.
        uneven: they expect TensorFlow's padding (``ConvNormAct``).
        folded: the norms are identities, because they were folded into the convolutions.
        state: state dict of the backbone.
    """

    name: str
    uneven: bool
    folded: bool
    state: Mapping[str, Tensor]


def write_backbone(path: Path, weights: BackboneWeights) -> None:
    """Write a backbone file; raises OSError."""
    save_checkpoint(path, asdict(weights))


def detector_for(backbone: str, uneven: bool) -> str:
    """Return the option of ``training.train`` that a backbone file is for.

    Args:
        backbone: as a detector's options have it, as ``{width: 0.5}``.
        uneven: its weights expect TensorFlow's padding.
    """
    padding = ", uneven: true" if uneven else ""
    return f"--detector '{{name: yolo_ret_m075, backbone: {backbone}{padding}}}'"


def read_backbone(path: Path) -> BackboneWeights:
    """Read a backbone file, or the averaged backbone of a checkpoint of ``training.train``.

    Raises:
        ValueError: it is neither.
    """
    content = read_tensors(path)
    if isinstance(content, dict) and {"detector", "average"} <= set(content):
        return _of_checkpoint(content, path)
    known = set(BackboneWeights.__dataclass_fields__)
    if not isinstance(content, dict) or set(content) != known:
        raise ValueError(
            f"{path} does not say of which backbone it is and how it pads: write it with imagenet, "
            "narrow_mobilenet or widen_mobilenet of training.weights, or give a checkpoint of "
            "training.train"
        )
    return BackboneWeights(**content)


def _of_checkpoint(content: dict[str, Any], path: Path) -> BackboneWeights:
    detector = Variant.from_settings(content["detector"], f"{path}: detector")
    with torch.device("meta"):
        uneven = pads_unevenly(detector.build(1).backbone)
    begin = "backbone."
    state = {k.removeprefix(begin): v for k, v in content["average"].items() if k.startswith(begin)}
    folded = bool(content.get("folded"))
    return BackboneWeights(f"the backbone of {detector}", uneven, folded, state)


def pads_unevenly(network: Module) -> bool:
    """Return whether a network pads as TensorFlow does where the stride is 2."""
    units = [unit for unit in network.modules() if isinstance(unit, ConvNormAct)]
    return any(not isinstance(unit.pad, nn.Identity) for unit in units)


def fill_backbone(
    backbone: Backbone, weights: BackboneWeights, path: Path, blocks: int | None = None
) -> None:
    """Load weights into a backbone, which may have fewer blocks than they are of.

    Args:
        backbone: changed in place.
        weights: what is loaded.
        path: where it was read from, for messages.
        blocks: load what comes before the submodule ``blocks`` and so many of these; the rest stays
            as it is. None: everything.

    Raises:
        ValueError: they are of another network or expect another padding, or there are not so many
            blocks.
    """
    own, state = backbone.state_dict(), dict(weights.state)
    last = dict(backbone.named_children()).get("blocks")
    count = 0 if last is None else len(list(last.children()))
    if blocks is not None and not 0 <= blocks <= count:
        raise ValueError(f"the backbone has {count} blocks: {blocks} of them cannot be loaded")
    wanted = [name for name in own if blocks is None or not beyond(name, blocks)]
    left = [name for name in state if name not in own and not (count and beyond(name, count))]
    other = f"the weights in {path} are of another network, {weights.name}: "
    for name in wanted:
        if name not in state:
            raise ValueError(f"{other}they have no {name}")
        if state[name].shape != own[name].shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            raise ValueError(f"{other}the shape of {name} is {shapes}")
    if left and blocks is None:
        raise ValueError(f"{other}there is no place for {left[0]}")
    if weights.uneven != pads_unevenly(backbone):
        how, option = ("TensorFlow's", "true") if weights.uneven else ("even", "false")
        raise ValueError(
            f"the weights in {path} expect {how} padding: add --set detector.uneven={option}"
        )
    backbone.load_state_dict(own | {name: state[name] for name in wanted})


def beyond(name: str, blocks: int) -> bool:
    """Return whether a backbone that is truncated to some blocks leaves out this value."""
    kind, number, *_ = (*name.split("."), "", "")
    return kind == "last" or (kind == "blocks" and number.isdecimal() and int(number) >= blocks)


def loaded_modules(backbone: Backbone, blocks: int | None) -> list[nn.Module]:
    """Return the modules that ``fill_backbone`` gives weights to."""
    return [
        module
        for name, module in backbone.named_modules()
        if name and (blocks is None or not beyond(name, blocks))
    ]


def transferred(backbone: Backbone, blocks: int | None = None) -> int:
    """Return the number of parameters that ``fill_backbone`` gives values to."""
    return sum(
        value.numel()
        for name, value in backbone.named_parameters()
        if blocks is None or not beyond(name, blocks)
    )

# SPDX-License-Identifier: Apache-2.0
"""A detector with options: ``yolo_ret_m075``, or that with another neck, backbone, ...

Everywhere it has one form, as plain values: the name of a row, or a mapping of the name and of the
options that differ from the row:

    yolo_ret_m075
    {name: yolo_ret_m075, neck: fpn, backbone: {name: mobilenet_v2, width: 0.5, blocks: 9}}
    {name: micro_yolo, channels: {deep.0.1: 640, s16.project: 224}}

``channels`` is an option of every detector: groups of channels (``channel_graph``) by name, and how
many of each are left. Pruning writes it (``training.studies.prune``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from compact_yolo_ros.model.card import detector_text
from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.yaml_files import parse_yaml
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.channel_graph import ChannelGraph, narrow, trace
from training.detectors.complexity import ShapesOnly
from training.detectors.interface import Detector, as_module
from training.detectors.registry import DETECTORS
from training.detectors.spec import DetectorConfig, DetectorSpec
from training.settings.yaml_settings import (
    differences,
    from_plain,
    merged,
    override,
    to_plain,
)

Settings = str | dict[str, Any]
CLASSES = "num_classes"
"""The field of configurations that is no option: the data says it."""
CHANNELS = "channels"
"""The option of every detector: groups of channels, and how many of each are left."""
CHECKED_SIDE = 64
"""Pixels of the image that a network with options is tried on."""


@dataclass(frozen=True)
class Variant:
    """A detector of the registry, with its options.

    Attributes:
        name: of the row.
        config: the row's configuration, or a changed one.
        channels: names of groups of channels (``channel_graph``), and how many are left of each.
    """

    name: str
    config: DetectorConfig
    channels: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_settings(cls, value: Any, where: str = "detector") -> Variant:
        """Read a name, or a mapping of a name and options.

        Args:
            value: plain values.
            where: they stand, for messages.

        Raises:
            ValueError: an option is unknown or impossible; the sentence says what is possible.
        """
        name, options = name_and_options(value, where)
        if name not in DETECTORS:
            known = ", ".join(sorted(DETECTORS))
            raise ValueError(f"{where} must be one of {known}, not {name!r}")
        spec = DETECTORS[name]
        base = to_plain(spec.config)
        _check_names(spec, base, options, where)
        own = {key: value for key, value in options.items() if key != CHANNELS}
        config = from_plain(type(spec.config), _with(base, own), where)
        if config != spec.config:
            _check(name, config, where)
        channels = _left(name, config, options.get(CHANNELS, {}), f"{where}.{CHANNELS}")
        return cls(name, config, channels)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read the text of a command line: a name, or the mapping in YAML.

        Raises:
            ValueError: as ``from_settings``, or it is no YAML.
        """
        return cls.from_settings(read_text(text))

    @property
    def spec(self) -> DetectorSpec[Any]:
        """The row."""
        return DETECTORS[self.name]

    @property
    def options(self) -> dict[str, Any]:
        """Plain values of the options that differ from the row's."""
        found = differences(to_plain(self.spec.config), to_plain(self.config))
        return found | ({CHANNELS: dict(self.channels)} if self.channels else {})

    def to_settings(self) -> Settings:
        """Return plain values, as ``from_settings`` takes them."""
        return {"name": self.name, **self.options} if self.options else self.name

    def __str__(self) -> str:
        """The text that ``parse`` takes."""
        return detector_text(self.name, self.options)

    @property
    def file_name(self) -> str:
        """The text without what file names should not have."""
        text = str(replace(self, channels=())).removeprefix("{name: ")
        if self.channels:
            digest = hashlib.sha256(repr(self.channels).encode()).hexdigest()
            text += f"_{CHANNELS}_{digest[:8]}"
        return re.sub(r"[^\w.]+", "_", text).strip("_")

    def build(self, num_classes: int | None = None) -> Detector:
        """Build the network with fresh weights; None: for as many classes as the row says."""
        config: Any = self.config
        if num_classes is not None:
            config = _for(config, num_classes)
        network = self.spec.build(config)
        if self.channels:
            kept = {name: np.arange(count) for name, count in self.channels}
            narrow(network, channels_of(self.name, config), kept)
        return network

    def graph(self, num_classes: int) -> ChannelGraph:
        """Return the channels of the network without ``channels``."""
        return channels_of(self.name, _for(self.config, num_classes))


def name_and_options(value: Any, where: str = "detector") -> tuple[str, dict[str, Any]]:
    """Separate the name of a detector from its options.

    Raises:
        ValueError: the value is neither a name nor a mapping with a name.
    """
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a name, or a mapping of name and options, not {value!r}")
    if not isinstance(value.get("name"), str):
        raise ValueError(f"{where}.name is missing: name the detector that the options are of")
    return value["name"], {key: item for key, item in value.items() if key != "name"}


def read_text(text: str) -> Any:
    """Return the plain values of a text, which are checked by ``Variant.from_settings``.

    Raises:
        ValueError: it is no YAML.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        return parse_yaml(text)
    except DocumentError as error:
        raise ValueError(f"detector {text!r} cannot be read: {error}") from None


def changed(text: str, assignments: Sequence[str]) -> str:
    """Return the text of a detector after assignments like ``detector.neck=fpn``.

    Raises:
        ValueError: it is not possible so.
    """
    return str(Variant.from_settings(change(read_text(text), assignments)))


def change(value: Any, assignments: Sequence[str]) -> Any:
    """Change plain values of a detector as ``--set detector.neck=fpn`` does.

    Args:
        value: plain values.
        assignments: texts like ``detector.neck=fpn`` and ``detector.trunk.1.kernel=5``.

    Returns:
        Plain values, which are checked by ``Variant.from_settings``.

    Raises:
        ValueError: an assignment cannot be read, or leads to no place.
    """
    for assignment in assignments:
        path = assignment.partition("=")[0]
        if path != "detector" and not path.startswith("detector."):
            raise ValueError(f"{assignment!r} does not begin with detector.")
        values = {"detector": value}
        # An option may be a part of another one, as of a list: it needs the whole to be there.
        base = None if path in ("detector", "detector.name") else _whole(value)
        if base is not None:
            values["detector"] = base
        elif path == "detector.name" and isinstance(value, str):
            values["detector"] = {"name": value}
        override(values, [assignment])
        value = values["detector"]
        if base is not None:
            row = _whole(base["name"])
            value = {"name": base["name"], **differences(row, value)}
    return value


def _whole(value: Any) -> dict[str, Any]:
    """Return the plain values with all options."""
    name, options = name_and_options(value)
    if name not in DETECTORS:
        known = ", ".join(sorted(DETECTORS))
        raise ValueError(f"detector must be one of {known}, not {name!r}")
    base = {k: v for k, v in to_plain(DETECTORS[name].config).items() if k != CLASSES}
    return {"name": name, **_with(base, options)}


def _with(base: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Put options in; a part that is named as another one begins from that one's defaults."""
    result = dict(base)
    for key, value in options.items():
        own = base.get(key)
        if isinstance(own, dict) and isinstance(value, dict):
            same = value.get("name", own.get("name")) == own.get("name")
            value = merged(own, value) if same else value
        result[key] = value
    return result


def _check_names(
    spec: DetectorSpec[Any], base: Mapping[str, Any], options: Mapping[str, Any], where: str
) -> None:
    if CLASSES in options:
        raise ValueError(f"{where}.{CLASSES} is no option: the classes are those of the data")
    known = [*(name for name in base if name != CLASSES), CHANNELS]
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {where}.{name}: {spec.name} has {', '.join(known)}")


@lru_cache(maxsize=256)
def _check(name: str, config: DetectorConfig, where: str) -> None:
    """Try a network with options, without memory for its weights, once in a process.

    Raises:
        ValueError: it cannot be built, or its maps have other sizes than its strides say.
    """
    _check_grid(config.grid, where)
    side = CHECKED_SIDE
    try:
        with torch.device("meta"), torch.no_grad(), ShapesOnly():
            found = [
                m.shape[2]
                for m in DETECTORS[name].build(config).eval()(torch.zeros(1, 3, side, side))
            ]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(
            f"{where}: {name} cannot be built with these options: {first_line(error)}"
        ) from None
    if found != [side // stride for stride in config.grid.strides]:
        strides = ", ".join(f"{side / size:g}" for size in found if size)
        raise ValueError(
            f"{where}: the maps have strides {strides}, grid.strides says "
            f"{', '.join(map(str, config.grid.strides))}"
        )


def _check_grid(grid: AnchorGrid, where: str) -> None:
    levels, place = len(grid.strides), f"{where}.grid"
    if len(grid.anchors) != levels or {len(a) for a in grid.anchors} != {grid.per_cell}:
        raise ValueError(f"{place}.anchors must be as many for each of {levels} strides")
    if not all(0 < side < 1e5 for level in grid.anchors for anchor in level for side in anchor):
        raise ValueError(f"{place}.anchors must be widths and heights above 0, in pixels")
    if len(grid.xy_scales) not in (0, levels) or not all(1 <= s <= 2 for s in grid.xy_scales):
        raise ValueError(f"{place}.xy_scales must be from 1 to 2, for each of {levels} strides")
    if grid.any_size:
        raise ValueError(f"{place}.any_size must be false: only darknet's networks are so made")


@lru_cache(maxsize=16)
def channels_of(name: str, config: DetectorConfig) -> ChannelGraph:
    """Return the channels of a network; those that count classes cannot be taken out."""
    with torch.device("meta"):
        network = DETECTORS[name].build(config)
        larger = DETECTORS[name].build(_for(config, config.num_classes + 1))
    widths = _outputs(as_module(network))
    counting = {n for n, width in _outputs(as_module(larger)).items() if width != widths[n]}
    # Values of any kind will do. Drawing them would change what is drawn after this.
    as_module(network).to_empty(device="cpu")
    return trace(network, frozenset(counting))


def _outputs(network: nn.Module) -> dict[str, int]:
    return {n: m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def _left(name: str, config: Any, value: Any, where: str) -> tuple[tuple[str, int], ...]:
    """Check the option ``channels``.

    Raises:
        ValueError: it is no mapping of groups to numbers of channels that they can have.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping of groups to numbers, not {value!r}")
    if not value:
        return ()
    widths = channels_of(name, config).widths()
    for group, count in value.items():
        if group not in widths:
            raise ValueError(f"unknown {where}: {group!r} is none of {', '.join(widths)}")
        if type(count) is not int or not 1 <= count <= widths[group]:
            raise ValueError(f"{where}: {group} must be from 1 to {widths[group]}, not {count!r}")
    return tuple(
        (group, value[group]) for group in widths if 0 < value.get(group, 0) < widths[group]
    )


def _for(config: Any, num_classes: int) -> Any:
    return replace(config, num_classes=num_classes)

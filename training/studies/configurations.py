# SPDX-License-Identifier: Apache-2.0
"""The rows of the papers' ablation tables, as detectors with options.

    python -m training.studies.configurations
    python -m training.studies.configurations micro_yolo

prints what they cost. A detector is trained as ``training.train --detector '{name: ...}'``.

YOLO-ReT (Ganesh et al., 2021): table 2 compares truncated backbones with narrower complete ones,
without RFCR; table 3 has RFCR with each neck; table 4 puts the parts together on three backbones.
Which widths table 2 has, and the backbone of table 3, is not quoted where this was written: here
every backbone there is, and MobileNetV2 x0.75, truncated.

Micro-YOLO (Hu et al., 2021): the 3x3 convolutions of Tiny-YOLOv3 are replaced by depthwise
separable ones or inverted bottlenecks, one alone (table 1), then one after the other down to the
layers of Micro-YOLO (table 2). Which of the rows the paper prints is not quoted either: here all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from compact_yolo_ros.support.terminal import open_console, print_table
from training.detectors.complexity import macs_by_size, parameters
from training.detectors.micro_yolo import Layer, MicroYoloConfig
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.detectors.yolo_ret import BackboneOptions

SIZES = (320, 416)
NECKS = ("none", "fpn", "panet", "bifpn1", "bifpn2", "bifpn3")
MOBILENETS = {"m050": 0.5, "m075": 0.75, "m100": 1.0, "m140": 1.4}
EFFICIENTNETS = ("b0", "b1", "b2", "b3")
JOINT_STEPS: Mapping[str, Mapping[str, bool]] = {
    "panet": {"truncated": False, "rfcr": False},
    "rfcr": {"truncated": False, "rfcr": True, "shortcut": False},
    "truncated": {"truncated": True, "rfcr": True, "shortcut": False},
    "shortcut": {"truncated": True, "rfcr": True, "shortcut": True},
}
"""Table 4 of YOLO-ReT: each step keeps what the one before has; the last is the detector itself."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: in the order paper, table, row: ``yolo_ret_table3_fpn_rfcr``.
        detector: the network of the row.
    """

    name: str
    detector: Variant


def yolo_ret(**options: Any) -> Variant:
    """Return a YOLO-ReT with options; what is not given is as in yolo_ret_m075."""
    return Variant("yolo_ret_m075", replace(DETECTORS["yolo_ret_m075"].config, **options))


def truncation_rows() -> Iterator[Row]:
    """Table 2 of YOLO-ReT: complete and truncated backbones, PANet, no RFCR."""
    backbones = {name: BackboneOptions(width=width) for name, width in MOBILENETS.items()}
    backbones |= {f"e{name}": BackboneOptions(f"efficientnet_{name}") for name in EFFICIENTNETS}
    for name, backbone in backbones.items():
        for ending, truncated in (("complete", False), ("truncated", True)):
            detector = yolo_ret(backbone=backbone, truncated=truncated, rfcr=False)
            yield Row(f"yolo_ret_table2_{name}_{ending}", detector)


def neck_rows() -> Iterator[Row]:
    """Table 3 of YOLO-ReT: every neck without and with RFCR."""
    for neck in NECKS:
        for ending, rfcr in (("", False), ("_rfcr", True)):
            yield Row(f"yolo_ret_table3_{neck}{ending}", yolo_ret(neck=neck, rfcr=rfcr))


def joint_rows() -> Iterator[Row]:
    """Table 4 of YOLO-ReT: the parts put together, one after the other."""
    for name in ("m075", "m14", "eb3"):
        row = DETECTORS[f"yolo_ret_{name}"]
        for step, options in JOINT_STEPS.items():
            detector = Variant(row.name, replace(row.config, **options))
            yield Row(f"yolo_ret_table4_{name}_{step}", detector)


Kind = Literal["conv", "dsconv", "mbconv"]
REPLACED = (3, 5, 7, 9, 11, 13, 15, 22)
"""The 3x3 convolutions of Tiny-YOLOv3 after the first, by the number of the layer in its cfg."""
BOTTLENECKS = {3: 3, 5: 5, 7: 3, 9: 5, 11: 3, 15: 3, 22: 3}
"""Kernels of the inverted bottlenecks of Micro-YOLO by layer; layer 13 is a separable one."""


def plain_convolutions() -> MicroYoloConfig:
    """Return Tiny-YOLOv3 as a table of layers."""
    config = MicroYoloConfig()
    for layer in REPLACED:
        config = with_layer(config, layer, "conv")
    return config


def with_layer(
    config: MicroYoloConfig, number: int, kind: Kind, kernel: int = 3
) -> MicroYoloConfig:
    """Return a configuration with another kind of layer.

    Args:
        config: to change.
        number: of REPLACED.
        kind: see ``Layer``.
        kernel: its side in pixels.
    """

    def changed(layer: Layer) -> Layer:
        return replace(layer, kind=kind, kernel=kernel)

    if number == 13:
        return replace(config, deep=(changed(config.deep[0]), config.deep[1]))
    if number == 15:
        return replace(config, s32=changed(config.s32))
    if number == 22:
        return replace(config, s16=changed(config.s16))
    place = (number - 1) // 2
    trunk = config.trunk
    return replace(config, trunk=(*trunk[:place], changed(trunk[place]), *trunk[place + 1 :]))


def single_layer_rows() -> Iterator[Row]:
    """Table 1 of Micro-YOLO: Tiny-YOLOv3 with one layer replaced."""
    base = plain_convolutions()
    yield Row("micro_yolo_table1_conv", Variant("micro_yolo", base))
    for number in REPLACED:
        for kind in ("dsconv", "mbconv"):
            config = with_layer(base, number, kind)
            yield Row(f"micro_yolo_table1_{number}_{kind}", Variant("micro_yolo", config))


def cumulative_rows() -> Iterator[Row]:
    """Table 2 of Micro-YOLO: layers replaced from the last to the first; the end is Micro-YOLO."""
    config = plain_convolutions()
    for number in reversed(REPLACED):
        kernel = BOTTLENECKS.get(number)
        kind: Kind = "mbconv" if kernel else "dsconv"
        config = with_layer(config, number, kind, kernel or 3)
        yield Row(f"micro_yolo_table2_from_{number}", Variant("micro_yolo", config))


ROWS: Mapping[str, Variant] = {
    row.name: row.detector
    for rows in (truncation_rows, neck_rows, joint_rows, single_layer_rows, cumulative_rows)
    for row in rows()
}
"""All rows by name."""


def table(names: list[str]) -> list[tuple[str, ...]]:
    """Return name, detector, parameters and GMAC at SIZES of rows."""
    cells = []
    for name in names:
        with torch.device("meta"):
            network = ROWS[name].build()
        gmacs = (f"{count / 1e9:.3f}" for count in macs_by_size(network, SIZES).values())
        cells.append((name, f"{parameters(network):,}", *gmacs, str(ROWS[name])))
    return cells


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Print the rows of the papers' tables.")
    parser.add_argument("begin", nargs="?", default="", help="of the rows' names")
    begin = parser.parse_args().begin
    names = [name for name in ROWS if name.startswith(begin)]
    if not names:
        parser.error(
            f"no row begins with {begin!r}: those there are begin with yolo_ret_table2, ..."
        )
    head = ("row", "parameters", *(f"GMAC @{size}" for size in SIZES), "detector")
    print_table(open_console(), head, table(names))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The INA3221 meters on a Jetson module, through sysfs.

NVIDIA's driver (L4T r32) shows ``rail_name_0`` and ``in_power0_input`` (mW) in iio:device folders,
the kernel's (r35, r36; kernel: hwmon/ina3221) ``in1_label``, ``in1_input`` (mV) and
``curr1_input`` (mA) in hwmon folders. Every user may read them. Not run on a Jetson yet.
"""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.machine.power.jetson_rails import module_rails
from compact_yolo_ros.machine.power.source import (
    MAX_WATTS,
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)
from compact_yolo_ros.machine.power.sysfs import Tree

DEVICES = "sys/bus/i2c/drivers/ina3221*/*-00*"
SUM_OF_SHUNTS = "sum of shunt voltages"


class Ina3221:
    """Watts of the module: the sum of the rails that ``jetson_rails`` chooses."""

    def __init__(self, root: Path) -> None:
        """Find the rails.

        Raises:
            Unavailable: the board has no INA3221, such as the Jetson Nano 2GB.
        """
        self._root = root
        channels = _channels(Tree(root))
        rails = module_rails(channels)
        if not rails:
            raise Unavailable("not on this board")
        self._files = [channels[rail] for rail in rails]
        self.name = f"INA3221 ({' + '.join(rails)})"

    def read(self) -> PowerReading:
        tree = Tree(self._root)
        found = [_watts(tree, files) for files in self._files]
        watts = [value for value in found if value is not None]
        if len(watts) < len(found):
            return PowerReading(problems=tuple(tree.problems))
        return metered("INA3221", sum(watts))

    def close(self) -> None:
        pass


def _channels(tree: Tree) -> dict[str, tuple[Path, ...]]:
    """Files of each rail by its name: power, or voltage and current."""
    channels: dict[str, tuple[Path, ...]] = {}
    for label in tree.find(f"{DEVICES}/iio*device*/rail_name_*"):
        number = label.name.rpartition("_")[2]
        if name := tree.text(label):
            channels[name] = (label.with_name(f"in_power{number}_input"),)
    for label in tree.find(f"{DEVICES}/hwmon/hwmon*/in*_label"):
        number = label.name.removeprefix("in").removesuffix("_label")
        name = tree.text(label)
        if name and name.lower() != SUM_OF_SHUNTS:
            channels[name] = (
                label.with_name(f"in{number}_input"),
                label.with_name(f"curr{number}_input"),
            )
    return channels


def _watts(tree: Tree, files: tuple[Path, ...]) -> float | None:
    if len(files) == 1:
        return tree.number(files[0], 0, MAX_WATTS, scale=1e-3)
    volts, amperes = (tree.number(path, 0, 1000, scale=1e-3) for path in files)
    return None if volts is None or amperes is None else volts * amperes


INFO = PowerSourceInfo(
    name="INA3221",
    part=Part.MODULE,
    open=Ina3221,
    reads=(
        "`VDD_IN` (Xavier NX, Orin NX, Orin Nano), `POM_5V_IN` (Nano), or the sum of the rails "
        "(AGX Xavier, AGX Orin) in `/sys/bus/i2c/drivers/ina3221x/*/iio:device*` (L4T r32) or "
        "`/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*` (r35, r36)"
    ),
)

# SPDX-License-Identifier: Apache-2.0
"""The processes, the device and the precision of a run."""

from __future__ import annotations

from functools import partial

from lightning_fabric import Fabric

from compact_yolo_ros.support.allocator import keep_all_freed_memory
from training.loop.precision import usable_precision
from training.loop.recipe import Precision


def open_fabric(
    precision: Precision, accelerator: str, devices: int = 1, nodes: int = 1, insist: bool = False
) -> tuple[Fabric, str]:
    """Return what runs the processes, and a sentence if it takes another precision.

    On a CPU, this process keeps the memory that it frees from now on.

    Args:
        precision: to train in.
        accelerator: of Lightning Fabric: ``auto``, ``cpu`` or ``gpu``.
        devices: GPUs, or processes, of a machine.
        nodes: machines.
        insist: take the precision even where it is emulated.

    Raises:
        ValueError: this machine does not have that accelerator.
    """
    make = partial(Fabric, accelerator=accelerator, devices=devices, num_nodes=nodes)
    try:
        fabric = make(precision=precision)
    except RuntimeError as error:
        raise ValueError(f"--accelerator {accelerator}: {error}") from None
    if fabric.device.type == "cpu":
        keep_all_freed_memory()
    usable, sentence = usable_precision(precision, fabric.device.type)
    if not sentence or insist:
        return fabric, ""
    return make(precision=usable), sentence

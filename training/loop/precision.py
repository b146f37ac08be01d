# SPDX-License-Identifier: Apache-2.0
"""Which precision of a recipe the device computes at full speed."""

from __future__ import annotations

from compact_yolo_ros.machine.description import processor_features
from training.loop.recipe import Precision

# The kernel's names of bfloat16 multiplications: x86 (AVX-512, AMX), ARM.
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def emulates_bfloat16(device: str) -> bool:
    """Return whether bfloat16 is emulated on a device: on processors without its instructions.

    Args:
        device: its type, ``cpu`` or another.
    """
    features = processor_features()
    return device == "cpu" and features is not None and not features & BFLOAT16


def usable_precision(wanted: Precision, device: str) -> tuple[Precision, str]:
    """Return the precision to train in, and one sentence if it is not the wanted one."""
    if wanted != "bf16-mixed" or not emulates_bfloat16(device):
        return wanted, ""
    return "32-true", (
        "This processor has no bfloat16 instructions, and emulating them is 3 to 5 times slower:"
        " training in 32-true instead of the recipe's bf16-mixed (--precision bf16-mixed insists)."
    )

# SPDX-License-Identifier: Apache-2.0
"""Which of a Jetson's measured supply rails add up to the power of the module.

- Nano: POM_5V_IN. Xavier NX, Orin NX and Orin Nano: VDD_IN. Both are the module's input.
- AGX Xavier (GPU, CPU, SOC, CV, VDDRQ, SYS5V) and AGX Orin (VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0)
  have no such rail: the sum is the best there is, and less than a meter at the socket shows.
- AGX Orin's VDDQ_VDD2_1V8AO is measured at 5 V, so we assume that VIN_SYS_5V0 supplies it, and do
  not add it. NC is a channel that is not connected.

NVIDIA Jetson Linux Developer Guide, Platform Power and Performance.
"""

from __future__ import annotations

from collections.abc import Collection

INPUTS = ("POM_5V_IN", "VDD_IN")
NOT_ADDED = ("NC", "VDDQ_VDD2_1V8AO")
ONLY_JETSON = ("POM_5V_IN", "VDD_CPU_GPU_CV", "VDD_CPU_CV", "VDD_GPU_SOC", "VDDRQ", "VDD_SYS_GPU")
"""Rails that tell a Jetson: boards of other makers may call theirs ``VDD_IN`` or ``CPU``."""


def module_rails(names: Collection[str]) -> list[str]:
    """Choose, from the names of a board's rails, those whose sum is the module's power."""
    for name in INPUTS:
        if name in names:
            return [name]
    return [name for name in names if name not in NOT_ADDED]

# SPDX-License-Identifier: Apache-2.0
"""Print how the double of TensorRT differs from NVIDIA's own bindings; nothing if it does not.

    python compare_tensorrt.py <folder of the bindings' tensorrt.so, or of the package tensorrt>

Everything that the double offers must exist there: classes, their methods with the same parameters
in the same order, attributes, members of enumerations, and the bits of the network flags.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType


def main(bindings: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    double = importlib.import_module("tensorrt")
    del sys.modules["tensorrt"]
    sys.path.insert(0, bindings)
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # cuBLAS and cuDNN are not needed for this
    real = importlib.import_module("tensorrt")
    assert real.__file__ != double.__file__
    for line in differences(double, real):
        print(line)


def differences(double: ModuleType, real: ModuleType) -> list[str]:
    """One sentence for each thing that the double has and the bindings do not."""
    found = []
    for name, kind in vars(double).items():
        if not inspect.isclass(kind) or name.startswith("_") or kind.__module__ != "tensorrt":
            continue
        if not hasattr(real, name):
            found.append(f"there is no {name}")
        elif issubclass(kind, enum.Enum):
            found += _enum_differences(name, kind, getattr(real, name))
        else:
            found += _class_differences(name, kind, getattr(real, name))
    return found


def _enum_differences(name: str, double: type[enum.Enum], real: type) -> list[str]:
    members = real.__members__  # type: ignore[attr-defined]
    found = [f"{name} has no {m}" for m in double.__members__ if m not in members]
    if name == "NetworkDefinitionCreationFlag":
        found += [
            f"{name}.{m} is {int(members[m])}"
            for m, value in double.__members__.items()
            if m in members and int(members[m]) != value.value
        ]
    return found


def _class_differences(name: str, double: type, real: type) -> list[str]:
    found = []
    for attribute, value in vars(double).items():
        if attribute.startswith("_") or hasattr(bytearray, attribute):
            continue
        if not hasattr(real, attribute):
            found.append(f"{name} has no {attribute}")
        elif inspect.isfunction(value):
            offered = _overloads(getattr(real, attribute).__doc__ or "")
            wanted = [p for p in inspect.signature(value).parameters if p != "self"]
            if wanted not in offered:
                found.append(f"{name}.{attribute} takes {offered}, not {wanted}")
    return found


def _overloads(documentation: str) -> list[list[str]]:
    """Parameter names of the ways to call a method, from what pybind11 wrote into its docstring."""
    signatures = re.findall(
        r"^(?:\d+\. )?\w+\(self: \S+?(, .*)?\) -> ", documentation, re.MULTILINE
    )
    ways = []
    for text in signatures:
        given = re.findall(r", (\w+): (?:[^,\[<]|\[[^\]]*\]|<[^>]*>)*", text)
        required = re.findall(r", (\w+): (?:[^,\[<=]|\[[^\]]*\])*(?=,|$)", text)
        ways += [given[:count] for count in range(len(required), len(given) + 1)]
    return ways


if __name__ == "__main__":
    main(sys.argv[1])

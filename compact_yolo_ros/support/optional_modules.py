# SPDX-License-Identifier: Apache-2.0
"""Modules that only some work needs: whether they are there, and work."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.pip import pip_line


def lacking(*modules: str) -> str:
    """Return which modules are missing or broken, and what installs them; empty if none is.

    They are imported: one that was built for another NumPy is there, and fails only then.

    Args:
        modules: names as in an import; the package on PyPI, and in apt behind ``python3-``, has
            that of the first part.
    """
    missing: list[str] = []
    broken: dict[str, str] = {}
    for module in modules:
        name = module.partition(".")[0]
        try:
            import_module(module)
        except Exception as error:  # one that is broken raises anything
            if find_spec(name) is None:
                missing.append(name)
            else:
                broken[name] = first_line(error)
    if broken:
        why = "; ".join(f"{name} cannot be imported: {error}" for name, error in broken.items())
        return f"{' and '.join([*missing, *broken])} ({why}): {pip_line(*missing, *broken)}"
    if not missing:
        return ""
    packages = " ".join(f"python3-{name}" for name in missing)
    return f"{' and '.join(missing)}: sudo apt install {packages}, or {pip_line(*missing)}"

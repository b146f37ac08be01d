# SPDX-License-Identifier: Apache-2.0
"""Finds the files that come with the package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "compact_yolo_ros"


def resource_directory(name: str) -> Path:
    """Return the package's folder ``models``, ``config`` or ``launch``.

    In a source tree it is the folder of the tree, otherwise the one installed under share/.

    Raises:
        FileNotFoundError: the package is not installed where ROS looks for it.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "package.xml").is_file():
        return root / name
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory(PACKAGE)) / name
    except (ImportError, LookupError):
        raise FileNotFoundError(
            f"the {name} of {PACKAGE} were not found: source the workspace, or set "
            "AMENT_PREFIX_PATH to where the package is installed"
        ) from None

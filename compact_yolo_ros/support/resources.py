# SPDX-License-Identifier: Apache-2.0
"""Finds the files that come with the package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "compact_yolo_ros"


def resource_directory(name: str) -> Path:
    """Return the package's folder ``models``, ``config`` or ``launch``.

    In a source tree it is the folder of the tree. Installed, it is below share/ of the prefix of
    this file, with or without a sourced workspace; else it is where ROS finds the package.

    Raises:
        FileNotFoundError: the package is installed without its folders.
    """
    here = Path(__file__).resolve()
    if (here.parents[2] / "package.xml").is_file():
        return here.parents[2] / name
    for prefix in here.parents:
        if (prefix / "share" / PACKAGE / "package.xml").is_file():
            return prefix / "share" / PACKAGE / name
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory(PACKAGE)) / name
    except (ImportError, LookupError, OSError):  # OSError: AMENT_PREFIX_PATH is not set
        raise FileNotFoundError(
            f"the {name} of {PACKAGE} were not found: source the workspace, or set "
            "AMENT_PREFIX_PATH to where the package is installed"
        ) from None

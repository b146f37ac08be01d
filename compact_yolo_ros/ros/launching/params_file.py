# SPDX-License-Identifier: Apache-2.0
"""Parameters that a YAML file gives a node, as ROS 2 reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.yaml_files import read_yaml


def parameters_of_file(path: Path, node: str) -> dict[str, Any]:
    """Return what a file sets for a node in the root namespace; later entries win.

    Args:
        path: of the file.
        node: its name.

    Raises:
        ValueError: it cannot be read, or is no YAML.
    """
    try:
        content = read_yaml(path)
    except (OSError, DocumentError) as error:
        raise ValueError(f"params_file: {path}: {error}") from None
    names = {node, "*", "**", f"**/{node}"}
    found: dict[str, Any] = {}
    for name, entry in content.items() if isinstance(content, dict) else ():
        given = entry.get("ros__parameters") if isinstance(entry, dict) else None
        if str(name).removeprefix("/") in names and isinstance(given, dict):
            found |= given
    return found

# SPDX-License-Identifier: Apache-2.0
"""Parameters that a YAML file gives a node, as ROS 2 reads them."""

from __future__ import annotations

from collections.abc import Iterator
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
    names = {f"/{node}", "/*", "/**", f"/**/{node}"}
    found: dict[str, Any] = {}
    for name, given in _entries("", content):
        if name in names:
            found |= given
    return found


def _entries(name: str, content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parameters of each node by its full name: namespaces may be levels of their own."""
    for key, inner in content.items() if isinstance(content, dict) else ():
        if key == "ros__parameters" and isinstance(inner, dict):
            yield name, inner
        else:
            below = str(key).strip("/")
            yield from _entries(f"{name}/{below}" if below else name, inner)

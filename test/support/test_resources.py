# SPDX-License-Identifier: Apache-2.0
"""The folders that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from compact_yolo_ros.support.resources import resource_directory

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["models", "config", "launch"])
def test_a_source_tree_uses_its_own_folders(name: str) -> None:
    assert resource_directory(name) == ROOT / name

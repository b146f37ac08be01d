# SPDX-License-Identifier: Apache-2.0
"""The folders that come with the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compact_yolo_ros.support.resources import resource_directory

ROOT = Path(__file__).resolve().parents[2]
FIND = "from compact_yolo_ros.support.resources import resource_directory as f; print(f('models'))"


@pytest.mark.parametrize("name", ["models", "config", "launch"])
def test_a_source_tree_uses_its_own_folders(name: str) -> None:
    assert resource_directory(name) == ROOT / name


# pip, pip --target, colcon and Debian install modules at different depths below the prefix
@pytest.mark.parametrize(
    "modules", ["lib/python3.11/site-packages", ".", "local/lib/python3.10/dist-packages"]
)
def test_an_installed_package_needs_no_sourced_workspace(tmp_path: Path, modules: str) -> None:
    share = tmp_path / "prefix" / "share" / "compact_yolo_ros"
    (share / "models").mkdir(parents=True)
    (share / "package.xml").touch()
    done = find_models(install(tmp_path / "prefix" / modules), {})
    assert done.stdout.strip() == str(share / "models")


def test_a_package_elsewhere_is_found_by_ament(tmp_path: Path) -> None:
    other = tmp_path / "other"
    index = other / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "compact_yolo_ros").touch()
    done = find_models(install(tmp_path / "modules"), {"AMENT_PREFIX_PATH": str(other)})
    assert done.stdout.strip() == str(other / "share" / "compact_yolo_ros" / "models")


def test_a_package_without_its_folders_is_one_sentence(tmp_path: Path) -> None:
    done = find_models(install(tmp_path / "modules"), {})
    assert "the models of compact_yolo_ros were not found: source the workspace" in done.stderr
    assert done.returncode == 1


def install(modules: Path) -> Path:
    """Copy what finds the folders to a place for modules, without the source tree around it."""
    for name in ("__init__.py", "support/__init__.py", "support/resources.py"):
        target = modules / "compact_yolo_ros" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "compact_yolo_ros" / name, target)
    return modules


def find_models(modules: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a Python without other variables prints."""
    command = [sys.executable, "-c", FIND]
    environment = {"PYTHONPATH": str(modules), **variables}
    return subprocess.run(
        command, cwd=modules, env=environment, capture_output=True, text=True, check=False
    )

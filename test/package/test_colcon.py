# SPDX-License-Identifier: Apache-2.0
"""`colcon build` installs the package where `ros2 run` and `ros2 launch` find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLCON = Path(sys.prefix) / "bin" / "colcon"
SOURCES = ("compact_yolo_ros", "config", "environment", "launch", "models", "resource")
FILES = ("LICENSE", "package.xml", "setup.cfg", "setup.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COLCON.exists(), reason="colcon is not installed here"),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with this package in src/, built."""
    workspace = tmp_path_factory.mktemp("workspace")
    package = workspace / "src" / "compact_yolo_ros"
    for name in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, package / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, package)
    result = subprocess.run(
        [COLCON, "--log-base", workspace / "log", "build", "--event-handlers", "console_direct+"],
        cwd=workspace,
        env={**os.environ, "PATH": f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace


def test_it_is_the_only_package_of_the_repository(workspace: Path) -> None:
    """Our vision_msgs must not overlay a robot's own."""
    built = [path.name for path in (workspace / "install").iterdir() if path.is_dir()]
    assert built == ["compact_yolo_ros"]


def test_share_and_index_are_in_place(workspace: Path) -> None:
    prefix = workspace / "install" / "compact_yolo_ros"
    assert (prefix / "share/ament_index/resource_index/packages/compact_yolo_ros").is_file()
    share = prefix / "share" / "compact_yolo_ros"
    for name in ("launch", "config", "models"):
        sources = {path.name for path in (ROOT / name).glob("*.*")}
        assert {path.name for path in (share / name).glob("*.*")} == sources


def test_executables_run_with_the_python_of_the_active_environment(workspace: Path) -> None:
    """A virtual environment, where ONNX Runtime is, or the system's Python without one."""
    folder = workspace / "install" / "compact_yolo_ros" / "lib" / "compact_yolo_ros"
    for path in folder.iterdir():
        assert path.read_text().splitlines()[0] == "#!/usr/bin/env python3"


def test_executables_start_from_where_ros2_run_looks(workspace: Path) -> None:
    folder = workspace / "install" / "compact_yolo_ros" / "lib" / "compact_yolo_ros"
    expected = {
        entry.name
        for entry in entry_points(group="console_scripts")
        if entry.module.startswith("compact_yolo_ros.")
    }
    assert {path.name for path in folder.iterdir() if os.access(path, os.X_OK)} == expected
    result = subprocess.run(
        ["bash", "-c", f". install/setup.bash && {folder / 'demo'} --help"],
        cwd=workspace,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr

# SPDX-License-Identifier: Apache-2.0
"""What `pip install .` puts into an environment is complete, current and found by ROS 2."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import compact_yolo_ros

ROOT = Path(__file__).resolve().parents[2]
PREFIX = Path(sys.prefix)
SHARE = PREFIX / "share" / "compact_yolo_ros"
EXECUTABLES = PREFIX / "lib" / "compact_yolo_ros"

try:
    DISTRIBUTION = importlib.metadata.distribution("compact_yolo_ros")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("the package is not installed here: run `make test`", allow_module_level=True)

ENTRY_POINTS = sorted(DISTRIBUTION.entry_points.select(group="console_scripts"))


def version_in_manifest() -> str:
    found = re.search(r"<version>(.+)</version>", (ROOT / "package.xml").read_text())
    assert found is not None
    return found.group(1)


def test_versions_agree() -> None:
    assert compact_yolo_ros.__version__ == DISTRIBUTION.version == version_in_manifest()
    assert re.search(rf"^{re.escape(DISTRIBUTION.version)} ", changelog(), re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.rst").read_text()


def test_installed_modules_are_the_sources() -> None:
    installed = Path(str(DISTRIBUTION.locate_file("compact_yolo_ros")))
    assert modules(installed) == modules(ROOT / "compact_yolo_ros")


def modules(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}


@pytest.mark.parametrize("folder", ["launch", "config", "models"])
def test_share_holds_every_file_of(folder: str) -> None:
    sources = {path.name: path.read_bytes() for path in (ROOT / folder).glob("*.*")}
    installed = {path.name: path.read_bytes() for path in (SHARE / folder).glob("*.*")}
    assert sources, f"{folder}/ is empty"
    assert installed.keys() == sources.keys()
    assert [name for name in sources if installed[name] != sources[name]] == []


def test_the_ament_index_resolves_the_package() -> None:
    from ament_index_python.packages import get_package_prefix, get_package_share_directory

    assert Path(get_package_prefix("compact_yolo_ros")) == PREFIX
    share = Path(get_package_share_directory("compact_yolo_ros"))
    assert (share / "package.xml").read_bytes() == (ROOT / "package.xml").read_bytes()


def test_training_is_not_installed() -> None:
    assert not any(str(file).startswith(("training", "test")) for file in DISTRIBUTION.files or [])


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: entry.name)
def test_entry_points_name_a_function(entry: importlib.metadata.EntryPoint) -> None:
    assert callable(getattr(import_module(entry.module), entry.attr))


def test_every_executable_is_where_ros2_run_looks() -> None:
    """`ros2 run` takes the executable files below lib/<package>."""
    found = {path.name for path in EXECUTABLES.iterdir() if os.access(path, os.X_OK)}
    assert found == {entry.name for entry in ENTRY_POINTS}


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: entry.name)
def test_executables_start_from_any_folder(
    entry: importlib.metadata.EntryPoint, tmp_path: Path
) -> None:
    """Started as `ros2 run` starts them: by path, elsewhere, without an activated environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH"}
    }
    result = subprocess.run(
        [EXECUTABLES / entry.name, "--help"],
        cwd=tmp_path,
        env={**environment, "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()

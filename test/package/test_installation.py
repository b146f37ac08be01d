# SPDX-License-Identifier: Apache-2.0
"""`pip install .` installs every file, up to date, where ROS 2 finds it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
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

# the variables of a shell without an activated environment
BARE = {
    **{
        name: value
        for name, value in os.environ.items()
        if name not in {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH"}
    },
    "PATH": "/usr/bin:/bin",
}

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


def test_the_installed_package_is_the_sources() -> None:
    installed = Path(str(DISTRIBUTION.locate_file("compact_yolo_ros")))
    assert files(installed) == files(ROOT / "compact_yolo_ros")


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


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
def test_the_demo_starts_from_any_folder(tmp_path: Path) -> None:
    command = [EXECUTABLES / "demo", "--help"]
    result = subprocess.run(
        command, cwd=tmp_path, env=BARE, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: demo")


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize("name", ["detector", "video_publisher"])
def test_nodes_start_from_any_folder(name: str, tmp_path: Path) -> None:
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    observer = rclpy.create_node("observer", context=context)
    with subprocess.Popen([EXECUTABLES / f"{name}_node"], cwd=tmp_path, env=BARE) as process:
        try:
            deadline = time.monotonic() + 60
            while name not in observer.get_node_names():
                assert process.poll() is None, f"{name} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{name} was not discovered"
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            observer.destroy_node()
            rclpy.shutdown(context=context)

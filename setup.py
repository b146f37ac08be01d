# SPDX-License-Identifier: Apache-2.0
"""Build and install the package, with colcon (ament_python) or pip."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

# after setuptools, which provides distutils where Python no longer does
from distutils.command.install_data import install_data  # isort: skip

PACKAGE = "compact_yolo_ros"

EXECUTABLES = {
    "adopt": "compact_yolo_ros.apps.adopt.command:main",
    "bag_player_node": "compact_yolo_ros.ros.run:bag_player_node",
    "bag_recorder_node": "compact_yolo_ros.ros.run:bag_recorder_node",
    "benchmark": "compact_yolo_ros.apps.benchmark.command:main",
    "build_engine": "compact_yolo_ros.apps.build_engine:main",
    "demo": "compact_yolo_ros.apps.demo.command:main",
    "detector_node": "compact_yolo_ros.ros.run:detector_node",
    "doctor": "compact_yolo_ros.apps.doctor.command:main",
    "evaluate_bag": "compact_yolo_ros.apps.evaluate_bag.command:main",
    "video_publisher_node": "compact_yolo_ros.ros.run:video_publisher_node",
}

VERSION = re.search(r"<version>(.+)</version>", Path("package.xml").read_text()).group(1)

LAUNCHER = """#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/../../bin/{name}" "$@"
"""


class InstallData(install_data):
    """Install the data files and, in a wheel, lib/<package>/<executable>, where `ros2 run` looks.

    colcon puts the console scripts there itself; pip puts them only into bin/.
    """

    def run(self) -> None:
        super().run()
        if self.distribution.get_command_obj("bdist_wheel", create=False) is None:
            return
        for name in EXECUTABLES:
            path = Path(self.install_dir, "lib", PACKAGE, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(LAUNCHER.format(name=name))
            path.chmod(0o755)
            self.outfiles.append(str(path))


def share(*folders: str) -> list[tuple[str, list[str]]]:
    """Return the files of each folder as data files of share/<package>/<folder>."""
    return [(f"share/{PACKAGE}/{folder}", sorted(glob(f"{folder}/*.*"))) for folder in folders]


setup(
    name=PACKAGE,
    version=VERSION,
    description="Compact YOLO detectors as ROS 2 nodes",
    license="Apache-2.0",
    maintainer="compact_yolo_ros maintainers",
    maintainer_email="maintainers@compact-yolo-ros.invalid",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: ["py.typed"],
        f"{PACKAGE}.evaluation": ["*.j2"],
        f"{PACKAGE}.model": ["*.json"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *share("launch", "config", "models"),
    ],
    install_requires=["numpy", "onnxruntime", "opencv-python-headless", "PyYAML", "rich"],
    entry_points={
        "console_scripts": [f"{name} = {function}" for name, function in EXECUTABLES.items()]
    },
    cmdclass={"install_data": InstallData},
    zip_safe=False,
)

# SPDX-License-Identifier: Apache-2.0
"""Compile environment/vision_msgs against the ROS 2 wheels and pack the result as a wheel.

rclpy needs compiled type support for every message type, and PyPI has no vision_msgs. It has the
generators, so the package is built as on any ROS 2 machine (CMake, rosidl), in its own virtual
environment. The wheel is kept in a folder named after a hash of its sources.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steps import BUILD, INSTALL, REQUIREMENTS, ROOT, SetupError, clean_environment, run

SOURCE = ROOT / "environment" / "vision_msgs"
LOCK = REQUIREMENTS / "build.txt"
DISTRIBUTION = "compact_yolo_ros_vision_msgs"
VERSION = "4.1.1"
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"


def wheel_path() -> Path:
    """Return the path of the wheel for this Python and these sources, built or not."""
    digest = hashlib.sha256(TAG.encode())
    for path in [LOCK, Path(__file__), *sorted(SOURCE.rglob("*"))]:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    name = f"{DISTRIBUTION}-{VERSION}-{TAG}-{TAG}-{platform}.whl"
    return BUILD / f"vision_msgs-{digest.hexdigest()[:12]}" / name


def check_compiler() -> None:
    """Check that the machine has a compiler and Python's header files.

    Raises:
        SetupError: one of them is missing.
    """
    compiler = (os.environ.get("CXX", "").split() or ["g++"])[0]
    if shutil.which(compiler) is None:
        raise SetupError(
            f"Building the message package vision_msgs needs a C++ compiler ({compiler}): "
            "install it (Debian, Ubuntu: `sudo apt install g++`) and run make again."
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
        raise SetupError(
            f"The headers of {sys.executable} are missing ({headers}/Python.h): "
            f"install them (Debian, Ubuntu: `sudo apt install {name}`) and run make again."
        )


def build_wheel() -> Path:
    """Build the wheel unless it is there already, and return its path.

    Raises:
        SetupError: a compiler is missing or a step failed.
    """
    wheel = wheel_path()
    if wheel.is_file():
        return wheel
    check_compiler()
    shutil.rmtree(wheel.parent, ignore_errors=True)
    wheel.parent.mkdir(parents=True)
    with _workplace(wheel.parent) as work:
        _build(work, wheel)
    return wheel


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder of the build, in ``folder`` if the generators can work there; removed afterwards.

    The generators' CMake files cut a path at the first letter that is not of ASCII, and at blanks.
    """
    work = folder / "work"
    if PLAIN_PATH.fullmatch(str(work)) is None:
        work = Path(tempfile.mkdtemp(prefix="compact_yolo_ros_"))
    work.mkdir(exist_ok=True)
    if PLAIN_PATH.fullmatch(str(work)) is None:
        raise SetupError(
            f"vision_msgs cannot be built in {folder} or {work}: the tools of ROS 2 need a path "
            "of plain letters, digits, '-', '_', '.' and '+': set TMPDIR to such a folder and run "
            "make again."
        )
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build(work: Path, wheel: Path) -> None:
    prefix = work / "venv"
    python = prefix / "bin" / "python"
    run("Creating the build environment", sys.executable, "-m", "venv", prefix)
    run(
        "Installing the interface generators, 240 MB during the build",
        *(python, "-m", "pip", *INSTALL, "--require-hashes", "-r", LOCK),
    )
    _point_at_this_machine(prefix, python)
    _compile(work, prefix, python)
    _pack(work / "install", wheel)


def _point_at_this_machine(prefix: Path, python: Path) -> None:
    """Replace the include folders in the wheels' CMake files, which are of the build machine."""
    query = (
        "import numpy, sysconfig; print(sysconfig.get_path('include')); print(numpy.get_include())"
    )
    headers, numpy_headers = subprocess.run(
        [str(python), "-c", query],
        check=True,
        capture_output=True,
        text=True,
        env=clean_environment(),
    ).stdout.split("\n")[:2]
    for file in prefix.glob("share/*/cmake/*_rosidl_generator_pyExport.cmake"):
        text = re.sub(r'/opt/python/[^;"]*/numpy/[^;"]*', lambda _: numpy_headers, file.read_text())
        file.write_text(re.sub(r'/opt/python/[^;"]*/include/python[^;"]*', lambda _: headers, text))


def _compile(work: Path, prefix: Path, python: Path) -> None:
    cmake = prefix / "bin" / "cmake"
    source = shutil.copytree(SOURCE, work / "source")
    environment = {
        "AMENT_PREFIX_PATH": str(prefix),
        "VIRTUAL_ENV": str(prefix),
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    run(
        "Configuring vision_msgs",
        *(cmake, "-S", source, "-B", work / "build", "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={prefix / 'bin' / 'ninja'}",
        f"-DCMAKE_INSTALL_PREFIX={work / 'install'}",
        f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_TESTING=OFF",
        f"-DPython3_ROOT_DIR={prefix}",
        f"-DPython3_EXECUTABLE={python}",
        "-DPython3_FIND_VIRTUALENV=ONLY",
        "-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/../../..",
        **environment,
    )
    run(
        "Compiling vision_msgs, up to a minute",
        *(cmake, "--build", work / "build", "--target", "install"),
        **environment,
    )


def _pack(install: Path, wheel: Path) -> None:
    """Pack an install tree: Python modules at the wheel's root, libraries and share/ as its data.

    Headers, C sources and CMake files are left out: nothing compiles against this package.
    """
    site_packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/"
    entries: dict[str, bytes] = {}
    for path in sorted(install.rglob("*")):
        name = path.relative_to(install).as_posix()
        if not path.is_file() or path.suffix in {".c", ".cmake", ".pyc"}:
            continue
        if name.startswith(site_packages):
            entries[name.removeprefix(site_packages)] = path.read_bytes()
        elif name.startswith(("lib/", "share/")):
            entries[f"{DISTRIBUTION}-{VERSION}.data/data/{name}"] = path.read_bytes()
    information = f"{DISTRIBUTION}-{VERSION}.dist-info"
    entries[f"{information}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION.replace('_', '-')}\nVersion: {VERSION}\n"
        f"Summary: Messages wire-compatible with vision_msgs {VERSION}\nLicense: Apache-2.0\n"
    ).encode()
    platform_tag = wheel.stem.removeprefix(f"{DISTRIBUTION}-{VERSION}-")
    entries[f"{information}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: compact_yolo_ros\n"
        f"Root-Is-Purelib: false\nTag: {platform_tag}\n"
    ).encode()
    record = f"{information}/RECORD"
    lines = [f"{name},sha256={_record_hash(data)},{len(data)}\n" for name, data in entries.items()]
    entries[record] = "".join([*lines, f"{record},,\n"]).encode()

    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        partial = Path(folder, wheel.name)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        partial.replace(wheel)


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()

# SPDX-License-Identifier: Apache-2.0
"""Versions: this package, Python, ROS and the libraries, each imported to find out if it works."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import ModuleType

from compact_yolo_ros import __version__
from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.machine.libraries import installed_version
from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.pip import pip_line

OLDEST_PYTHON = (3, 10)
MIDDLEWARE = "middleware"
CUDA_DRIVER = "libcuda.so.1"
"""NVIDIA's driver, which the libraries for its GPUs load."""
PRINT_MIDDLEWARE = (
    "from rclpy.utilities import get_rmw_implementation_identifier as name; print(name())"
)
ANOTHER_NUMPY = re.compile(
    r"numpy\.core\.multiarray failed to import|numpy\._core\.multiarray failed to import"
    r"|compiled (using|against) .*(NumPy|API|ABI)|numpy\.(dtype|ndarray) size changed"
)
"""What modules that were built for another NumPy raise."""
LOG_PREFIX = re.compile(r"^(\[[^]]*\] ?)+: ")
"""Severity, time and logger at the start of a line of ROS's log."""


def system(around: Surroundings) -> Iterator[Finding]:
    """Report the package itself, Python and the operating system."""
    yield ok("compact_yolo_ros", __version__)
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield problem("Python", f"{version} ({sys.executable})", "use Python 3.10 or later")
    else:
        yield ok("Python", f"{version} ({sys.executable})")
    release = dict(
        line.split("=", 1)
        for line in (around.text("etc/os-release") or "").splitlines()
        if "=" in line
    )
    name = release.get("PRETTY_NAME", "unknown").strip('"')
    yield ok("system", f"{name}, Linux {platform.release()}, {platform.machine()}")


def ros(around: Surroundings) -> Iterator[Finding]:
    """Report the ROS distribution and its middleware."""
    distribution = around.environment.get("ROS_DISTRO")
    if find_spec("rclpy") is None:
        installed = around.names("opt/ros/*/setup.bash")
        yield note(
            "ROS",
            "this Python finds no rclpy: the nodes cannot run, everything else can",
            f"source {installed[-1]}" if installed else "install ROS 2, and source its setup.bash",
        )
        return
    yield ok("ROS", distribution or "rclpy without ROS_DISTRO (from PyPI)")
    done = subprocess.run(  # rcl ends the process if it cannot load the middleware
        [sys.executable, "-c", PRINT_MIDDLEWARE],
        env={**os.environ, **around.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        chosen = around.environment.get("RMW_IMPLEMENTATION", "the default middleware")
        last_line = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        yield problem(
            MIDDLEWARE,
            f"{chosen} cannot be loaded: {LOG_PREFIX.sub('', last_line)}",
            "install that package, or unset RMW_IMPLEMENTATION",
        )
        return
    yield ok(MIDDLEWARE, done.stdout.strip(), rmw=done.stdout.strip())


def library(which: Library) -> Iterator[Finding]:
    """Report the version of a library, or why it cannot be imported."""
    if find_spec(which.module.partition(".")[0]) is None:
        if which.purpose:
            yield ok(which.name, f"not installed; only needed for {which.purpose}")
        else:
            yield problem(which.name, "not installed", which.install_line)
        return
    try:
        module = _imported(which.module)
    except Exception as error:  # an import may raise anything
        yield _broken(which, error)
        return
    version = getattr(module, "__version__", None) or installed_version(which)
    yield ok(which.name, version or "of unknown version")


def _imported(module: str) -> ModuleType:
    """Import a module; what it prints meanwhile is printed only if that works.

    NumPy prints a page about every module that was built for another NumPy.
    """
    with redirect_stderr(StringIO()) as printed:
        found = importlib.import_module(module)
    sys.stderr.write(printed.getvalue())
    return found


def _broken(which: Library, error: Exception) -> Finding:
    """What an import that failed means."""
    found = f"installed, but it cannot be imported: {first_line(error)}"
    if CUDA_DRIVER in str(error):
        return note(which.name, found, "the NVIDIA driver is missing here")
    if ANOTHER_NUMPY.search(str(error)):
        numpy = importlib.import_module("numpy")
        found = f"it was built for another NumPy than {numpy.__version__} in {_folder(numpy)}"
        return problem(which.name, found, pip_line("numpy"))
    return problem(which.name, found, _reinstall(which))


def _folder(module: ModuleType) -> str:
    return str(Path(module.__file__ or "").parents[1])


def cuda_driver(around: Surroundings) -> Iterator[Finding]:
    """Report the CUDA version that the installed driver can run."""
    try:
        version = ctypes.c_int()
        ctypes.CDLL(CUDA_DRIVER).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        yield ok("CUDA driver", f"none ({CUDA_DRIVER}); only needed for NVIDIA GPUs")
        return
    major, minor = version.value // 1000, version.value % 1000 // 10
    module = (around.text("proc/driver/nvidia/version") or "").partition("\n")[0]
    yield ok("CUDA driver", f"for CUDA {major}.{minor}{', ' if module else ''}{module}")


def _reinstall(which: Library) -> str:
    own = which.install or which.install_on_jetson
    return which.install_line if own else pip_line("--force-reinstall", which.distribution)

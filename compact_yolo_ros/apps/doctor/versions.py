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
from importlib.util import find_spec

from compact_yolo_ros import __version__
from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.machine.libraries import installed_version
from compact_yolo_ros.support.error_text import first_line

OLDEST_PYTHON = (3, 10)
MIDDLEWARE = "middleware"
CUDA_DRIVER = "libcuda.so.1"
"""NVIDIA's driver, which the libraries for its GPUs load."""
PRINT_MIDDLEWARE = (
    "from rclpy.utilities import get_rmw_implementation_identifier as name; print(name())"
)
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
        module = importlib.import_module(which.module)
    except Exception as error:  # an import may raise anything
        found = f"installed, but it cannot be imported: {first_line(error)}"
        if CUDA_DRIVER in str(error):
            yield note(which.name, found, "the NVIDIA driver is missing here")
        else:
            yield problem(which.name, found, _reinstall(which))
        return
    version = getattr(module, "__version__", None) or installed_version(which)
    yield ok(which.name, version or "of unknown version")


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
    return which.install_line if own else f"pip install --force-reinstall {which.distribution}"

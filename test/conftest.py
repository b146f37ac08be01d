# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a ROS domain for each process, and no stopwatch.

Tests that run side by side, in workers or in two checkouts, must not hear each other.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_DOMAINS = range(1, 102)


def _claim_domain() -> int:
    """Return a domain that no other test process here uses, locked until this one ends."""
    folder = Path(tempfile.gettempdir()) / f"compact_yolo_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    # in no order, so that other users of the machine and other ROS programs are rarely met
    for domain in random.Random(os.getpid()).sample(_DOMAINS, len(_DOMAINS)):
        handle = os.open(folder / str(domain), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        return domain
    raise RuntimeError(f"all ROS domains are taken by other test processes, see {folder}")


# Where Python is told to keep no bytecode, each of hundreds of processes compiles the package anew,
# in a fifth of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# before any test module imports rclpy; the children of the tests inherit it
os.environ["ROS_DOMAIN_ID"] = str(_claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)

# Nodes remember what they have timed: neither do tests use what the user's nodes have remembered,
# nor the other way round. Other programs keep their caches.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
for variable, name in (
    ("MPLCONFIGDIR", "matplotlib"),
    ("UV_CACHE_DIR", "uv"),
    ("PIP_CACHE_DIR", "pip"),
):
    os.environ.setdefault(variable, str(_CACHE / name))
_own_cache = tempfile.TemporaryDirectory(prefix="compact_yolo_ros_cache_")
os.environ["XDG_CACHE_HOME"] = _own_cache.name

# On a busy machine an example may take any time. The examples are the same in every run, so that a
# change is judged by itself; HYPOTHESIS=explore draws new ones.
PATIENT = settings(settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", PATIENT, derandomize=True, database=None)
settings.register_profile("explore", PATIENT, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))

from runtime_fixtures import model, no_report, toy, trt  # noqa: E402, F401

_crashed: list[object] = []


@pytest.fixture(autouse=True)
def forget_timings() -> None:
    """A test does not run what a node of an earlier one has found to be the fastest."""
    shutil.rmtree(Path(_own_cache.name, "compact_yolo_ros", "timings"), ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Have no search for garbage look again at what is there for good.

    The modules and thousands of tests of a process are several million objects: half a second each
    time.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(error: object) -> None:
    """Remember that a test process crashed (a hook of pytest-xdist, where that is installed)."""
    if error:
        _crashed.append(error)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Do not end like a run whose tests failed: after a crash, tests were left out."""
    if _crashed:
        session.exitstatus = pytest.ExitCode.INTERRUPTED

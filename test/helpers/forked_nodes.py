# SPDX-License-Identifier: Apache-2.0
"""Nodes forked from a process that has loaded ROS and their modules, which takes most of a start.

A forked node is the real one, in a process of its own: only its imports are done. Tests that are
about the start, or about what a process costs, start one as users do (``NodeProcess``).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

LOADED = (
    "compact_yolo_ros.backends.onnxruntime",
    "compact_yolo_ros.ros.detector.activation",
    "compact_yolo_ros.ros.detector.node",
    "compact_yolo_ros.ros.players.bag_player",
    "compact_yolo_ros.ros.players.bag_recorder",
    "compact_yolo_ros.ros.players.video_publisher",
    "compact_yolo_ros.ros.diagnostics.publisher",
    "onnxruntime",
    "rclpy.executors",
)


class ForkedProcess:
    """What tests use of ``subprocess.Popen``, of a process that the nursery is to fork."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.args = command
        self.returncode: int | None = None
        self._nursery = nursery()
        self.pid = self._nursery.fork(command, log, environment)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._await(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended."""
        if (code := self._await(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.code_of(self.pid, timeout)
        return self.returncode


class Nursery:
    """The process that forks, as its client sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._codes: dict[int, int] = {}
        self._unread = b""

    def fork(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Return the number of a new process that runs ``python -m command``."""
        request = {"command": command, "log": str(log), "environment": dict(environment)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while True:
            for told in self._told(None):
                if "forked" in told:
                    return told["forked"]

    def code_of(self, process: int, timeout: float | None) -> int | None:
        """Return the exit code of a forked process; None if it runs after ``timeout`` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while process not in self._codes:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._told(left) and end is not None and time.monotonic() >= end:
                break
        return self._codes.get(process)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _told(self, timeout: float | None) -> list[dict[str, int]]:
        """Return what it says within ``timeout`` seconds; exit codes are kept."""
        pipe = self._process.stdout
        assert pipe is not None
        if not select.select([pipe], [], [], timeout)[0]:
            return []
        read = os.read(pipe.fileno(), 65536)
        assert read, "the process that forks nodes has ended"
        *lines, self._unread = (self._unread + read).split(b"\n")
        told = [json.loads(line) for line in lines]
        self._codes.update({each["ended"]: each["code"] for each in told if "ended" in each})
        return told


@cache
def nursery() -> Nursery:
    """Return the one of this process; it ends with it."""
    started = Nursery()
    atexit.register(started.close)
    return started


# What the forking process runs


def main() -> None:
    """Load, and fork a process for each request."""
    # as ros/process.py does before it loads ROS
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.modules.setdefault("rosidl_parser.parser", None)  # type: ignore[arg-type]
    for name in LOADED:
        import_module(name)
    gc.freeze()
    # a fork has this thread only: of ROS's libraries, only those of the tracing are lost
    assert threading.active_count() == 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    signal.signal(signal.SIGCHLD, _tell_ended)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if (process := os.fork()) == 0:
            _become(**request)
        _tell(forked=process)


def _become(command: list[str], log: str, environment: dict[str, str]) -> None:
    """Be the node; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _tell_ended(number: int, frame: FrameType | None) -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not process:
            return
        _tell(ended=process, code=os.waitstatus_to_exitcode(status))


def _tell(**facts: Any) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main()

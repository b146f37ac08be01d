# SPDX-License-Identifier: Apache-2.0
"""Nodes of this package as child processes, for programs that measure or show them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from compact_yolo_ros.ros.fast_dds import detector_environment, profile_environment

DOMAINS = range(216, 233)
"""ROS domains that nobody uses by default; their ports are not among those Linux hands out."""


def prepare_environment(profile: Path) -> None:
    """Limit ROS to this machine and a domain of its own, with shared memory for whole images.

    Call it before ROS is imported: DDS reads the environment variables then.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(DOMAINS[os.getpid() % len(DOMAINS)]))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.update(profile_environment(os.environ, str(profile)))


class ChildNode:
    """A node's process and what it printed."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Take a process that was started, and the file of its output."""
        self.name = name
        self._process = process
        self._log = log

    def failure(self) -> str | None:
        """Why it ended; None if it still runs."""
        if self._process.poll() is None:
            return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{self.name} ended: {lines[-1] if lines else 'it printed nothing'}"

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def child_node(
    name: str,
    namespace: str,
    parameters: dict[str, Any],
    folder: Path,
    *,
    sends_images: bool = True,
) -> Iterator[ChildNode]:
    """Run a node of this package; its parameters and its output are files in ``folder``.

    Without ``sends_images`` it gets little shared memory, as the launch file gives a detector.
    """
    environment = {} if sends_images else detector_environment(os.environ)
    file, log = folder / f"{name}.yaml", folder / f"{name}.log"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    command = [sys.executable, "-m", "compact_yolo_ros.ros.run", name]
    command += ["--ros-args", "-r", f"__ns:={namespace}", "--params-file", str(file)]
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C reaches only the program, which then stops it.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    node = ChildNode(name, process, log)
    try:
        yield node
    finally:
        node.stop()

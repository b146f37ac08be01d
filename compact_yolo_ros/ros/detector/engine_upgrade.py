# SPDX-License-Identifier: Apache-2.0
"""From the CPU to the GPU while the node works: the engine is built in a process of its own.

A build takes minutes and much memory. In its own process it can be ended at any moment, holds no
lock of this one, and gives all its memory back.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from time import monotonic

from compact_yolo_ros.backends import (
    BackendError,
    MissingEngine,
    Opened,
    RunOptions,
    open_backend,
    open_if_built,
)
from compact_yolo_ros.backends.arguments import to_arguments
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.store import ModelError

ON_CPU = {"backend": "onnxruntime", "precision": "auto", "dla_core": -1}
"""Changes of the options that lead to the backend that is always there."""
BUILD = "compact_yolo_ros.backends.engine_build"
LOG_PERIOD = 15.0
"""Seconds between two lines of progress in the log; /diagnostics has the newest."""


def open_now(options: RunOptions) -> tuple[Detector, str]:
    """Open a detector that can work at once.

    Args:
        options: the model and how to run it.

    Returns:
        The detector, and why it runs on the CPU until an engine is built; empty if it need not.

    Raises:
        ModelError, BackendError, ValueError: see ``Detector.open``.
    """
    opened = open_if_built(options)
    if isinstance(opened, Opened):
        return Detector(opened), ""
    meanwhile = open_backend(options.change(**ON_CPU))
    choice = f"until the engine is built: {opened.reason}"
    return Detector(replace(meanwhile, choice=choice)), opened.reason


class EngineUpgrade:
    """Builds the engine for a detector that runs on the CPU, and moves the detector to the GPU.

    Attributes:
        state: one line for /diagnostics.
        warning: why there is no engine; empty if there is one, or may still be.
    """

    def __init__(
        self,
        detector: Detector,
        options: RunOptions,
        log: Callable[[str], object],
    ) -> None:
        """Start building; ``log`` is called from another thread."""
        self.state = "starting"
        self.warning = ""
        self._detector = detector
        self._options = options.change(backend="tensorrt")
        self._log = log
        self._cancelled = False
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the node, which then ends the build
        )
        self._thread = Thread(target=self._follow, name="engine build", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the build if it still runs; the detector stays as it is."""
        self._cancelled = True
        self._process.kill()
        self._thread.join()

    def _command(self) -> list[str]:
        words = to_arguments(self._options, leave_out=("backend", "threads"))
        return ["nice", "-n", "10", sys.executable, "-m", BUILD, *words]

    def _follow(self) -> None:
        assert self._process.stdout is not None
        logged = float("-inf")
        with self._process.stdout as lines:
            for line in lines:
                self.state = line.strip() or self.state
                if monotonic() - logged >= LOG_PERIOD:
                    logged = monotonic()
                    self._log(self.state)
        code = self._process.wait()
        if self._cancelled:
            return
        if code != 0:
            self._give_up(self.state if code > 0 else _killed(-code))
            return
        try:
            opened = open_if_built(self._options)
        except (ModelError, BackendError, ValueError) as error:
            self._give_up(str(error))
            return
        if isinstance(opened, MissingEngine):
            self._give_up(opened.reason)
            return
        choice = "its engine was built while the CPU answered"
        self._detector.replace_backend(replace(opened, choice=choice))
        self.state = "ready"
        self._log(f"The engine is ready: the next image is answered on {opened.backend.device}")
        if opened.warning:
            self._log(opened.warning)

    def _give_up(self, reason: str) -> None:
        self.state = "failed"
        kept = "with the input size" if self._detector.backend.name == "tensorrt" else "on the CPU"
        self.warning = f"staying {kept}, the engine could not be built: {reason}"
        self._log(self.warning)


def _killed(number: int) -> str:
    why = ", as Linux does when memory runs out" if number == signal.SIGKILL else ""
    return f"its process was ended by signal {number} ({signal.strsignal(number)}){why}"

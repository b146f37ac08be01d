# SPDX-License-Identifier: Apache-2.0
"""From the CPU to the GPU while the node works: the engine is built in a process of its own.

A build takes minutes and much memory. In its own process it can be ended at any moment, holds no
lock of this one, and gives all its memory back.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from threading import Thread
from time import monotonic
from typing import Any

from compact_yolo_ros.backends import BackendError, EngineMissing, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.store import ModelError, find_model

ON_CPU = {"backend": "onnxruntime", "precision": "auto", "dla_core": -1}
"""Options of the backend that is always there."""
LOG_PERIOD = 15.0
"""Seconds between two lines of progress in the log; /diagnostics has the newest."""


def open_now(model: str, options: Mapping[str, Any]) -> tuple[Detector, str]:
    """Open a detector that can work at once.

    Args:
        model: name or path.
        options: keyword arguments of ``Detector.open``.

    Returns:
        The detector, and why it runs on the CPU until an engine is built; empty if it need not.

    Raises:
        ModelError, BackendError, ValueError: see ``Detector.open``.
    """
    try:
        return Detector.open(model, **options, build=False), ""
    except EngineMissing as missing:
        reason = missing.reason
    detector = Detector.open(model, **{**options, **ON_CPU})
    detector.backend.choice = f"until the engine is built: {reason}"
    return detector, reason


class EngineUpgrade:
    """Builds the engine for a detector that runs on the CPU, and moves the detector to the GPU.

    Attributes:
        state: one line for /diagnostics.
        warning: why there is no engine; empty if there is one, or may still be.
    """

    def __init__(
        self,
        detector: Detector,
        model: str,
        options: Mapping[str, Any],
        log: Callable[[str], object],
    ) -> None:
        """Start building; ``log`` is called from another thread."""
        self.state = "starting"
        self.warning = ""
        self._detector = detector
        self._model = model
        self._options = {**options, "backend": "tensorrt"}
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
        options = self._options
        command = ["nice", "-n", "10", sys.executable, "-m", "compact_yolo_ros.apps.build_engine"]
        command += ["--model", self._model, "--precision", options["precision"]]
        command += ["--dla-core", str(options["dla_core"])]
        sizes = [options["input_size"], *options["more_sizes"]]
        command += ["--input-size", *(str(height) for height, _ in sizes)]
        if options["engine_cache"]:
            command += ["--engine-cache", options["engine_cache"]]
        return command

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
            backend = open_backend(find_model(self._model), **self._options, build=False)
        except (ModelError, BackendError, ValueError) as error:
            self._give_up(str(error))
            return
        backend.choice = "its engine was built while the CPU answered"
        self._detector.replace_backend(backend)
        self.state = "ready"
        self._log(f"The engine is ready: the next image is answered on {backend.device}")
        if backend.warning:
            self._log(backend.warning)

    def _give_up(self, reason: str) -> None:
        self.state = "failed"
        kept = "with the input size" if self._detector.backend.name == "tensorrt" else "on the CPU"
        self.warning = f"staying {kept}, the engine could not be built: {reason}"
        self._log(self.warning)


def _killed(number: int) -> str:
    why = ", as Linux does when memory runs out" if number == signal.SIGKILL else ""
    return f"its process was ended by signal {number} ({signal.strsignal(number)}){why}"

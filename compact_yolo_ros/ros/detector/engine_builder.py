# SPDX-License-Identifier: Apache-2.0
"""A TensorRT engine that is missing: built in a process beside the node, and opened then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread

from compact_yolo_ros.backends import (
    BACKENDS,
    Backend,
    MissingEngine,
    Opened,
    RunOptions,
    open_if_built,
)
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.ros.detector.backend_opener import CANNOT_OPEN, BackendOpener
from compact_yolo_ros.ros.detector.build_process import ENGINES, BuildProcess
from compact_yolo_ros.ros.detector.logger import Logger


def runs_on_gpu(backend: Backend) -> bool:
    """Whether it is one of those that need a GPU."""
    return BACKENDS[backend.name].runs_on == "GPU"


class EngineBuilder:
    """Builds the engine that is missing, one at a time.

    ``begin`` and ``cancel`` are for the opener's thread, and where that does not run; the rest is
    for any.

    Attributes:
        awaits_image: whether the build begins later, when an image has shown which shape the
            engine is to fit.
    """

    def __init__(
        self,
        detector: Detector,
        opener: BackendOpener,
        use: Callable[[Opened], None],
        logger: Logger,
    ) -> None:
        """Have nothing to build.

        Args:
            detector: what answers meanwhile.
            opener: opens the engine that was built.
            use: gets it, in the opener's thread.
            logger: is told what happens.
        """
        self.awaits_image = False
        self._detector = detector
        self._opener = opener
        self._use = use
        self._log = logger
        self._process: BuildProcess | None = None
        self._follower: Thread

    @property
    def is_needed(self) -> bool:
        """Whether an engine was missing; also once it is built, or could not be."""
        return self._process is not None or self.awaits_image

    @property
    def state(self) -> str:
        """One line for /diagnostics; empty if no engine was missing."""
        if self.awaits_image:
            return "begins with the first image, whose shape the engine fits"
        process = self._process
        return process.state if process else ""

    @property
    def warning(self) -> str:
        """Why there is no engine, for people; empty if there is one, or may still be."""
        process = self._process
        return self._without_engine(process.failure) if process and process.failure else ""

    def begin(self, missing: MissingEngine, options: RunOptions) -> None:
        """Build it now, or leave it to the next call with sizes of images that it is to fit.

        Args:
            missing: the engine.
            options: what cannot be run without it.
        """
        fits = any(isinstance(size, int) for size in self._detector.inputs)
        awaits_image = fits and not options.image_sizes
        if not awaits_image:
            self._start(missing, options)
        self.awaits_image = awaits_image

    def cancel(self) -> None:
        """End the build that goes on, if there is one."""
        if self._process is not None:
            self._process.cancel()
            self._follower.join()
            self._process = None

    def _start(self, missing: MissingEngine, options: RunOptions) -> None:
        self._log.info(f"{missing.reason}: building it in the background")
        process = BuildProcess(ENGINES, options.change(backend="tensorrt"), self._log)

        def then(failure: str = "") -> None:
            self._opener.submit(partial(self._open, process, failure))

        self._follower = process.follow(then, then)
        self._process = process

    def _open(self, process: BuildProcess, failure: str) -> None:
        """Use what was built: enough for all sizes may be there though the build failed."""
        if process is not self._process:
            return
        try:
            opened = open_if_built(process.options)
        except CANNOT_OPEN as error:
            self._give_up(process, failure or str(error))
            return
        if isinstance(opened, MissingEngine):
            self._give_up(process, failure or opened.reason)
            return
        process.state = "ready"
        self._use(opened)

    def _give_up(self, process: BuildProcess, reason: str) -> None:
        process.state, process.failure = "failed", reason
        self._log.warning(self._without_engine(reason))

    def _without_engine(self, reason: str) -> str:
        on_gpu = runs_on_gpu(self._detector.backend)
        kept = "with the input size" if on_gpu else "on the CPU"
        return f"staying {kept}, the engine could not be built: {reason}"

# SPDX-License-Identifier: Apache-2.0
"""The choice by time: what is fastest on this CPU takes over from what opens soonest.

What was not timed on this machine yet is timed in a process beside the node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from compact_yolo_ros.backends import Opened, RunOptions, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.ros.detector.backend_opener import BackendOpener
from compact_yolo_ros.ros.detector.build_process import TIMING, BuildProcess
from compact_yolo_ros.ros.detector.logger import Logger

if TYPE_CHECKING:
    from compact_yolo_ros.backends.remembered import Remembered


class BackendTiming:
    """Opens what was timed to be the fastest, and has timed what was not.

    ``succeeded`` is for the thread that detects, ``rest`` for the executor's, ``state`` and
    ``cancel`` for any.
    """

    def __init__(
        self,
        detector: Detector,
        opener: BackendOpener,
        use: Callable[[Opened], None],
        to_time: Callable[[], RunOptions | None],
        logger: Logger,
    ) -> None:
        """Choose nothing before ``allow``.

        Args:
            detector: what runs.
            opener: does what takes long.
            use: gets what takes over, in the opener's thread.
            to_time: says for which options to choose; None where timings do not choose.
            logger: is told what happens.
        """
        self._detector = detector
        self._opener = opener
        self._use = use
        self._to_time = to_time
        self._log = logger
        self._process: BuildProcess | None = None
        self._known = "waiting for the first image"
        self._may_choose = False
        self._is_active = False

    @property
    def state(self) -> str:
        """One line for /diagnostics."""
        process = self._process
        return process.state if process else self._known

    def allow(self, options: RunOptions) -> None:
        """Choose after the next image, if these options leave that to timings."""
        self._may_choose = options.are_for_timing

    def succeeded(self) -> None:
        """Note that an image was answered."""
        if self._may_choose:
            self._may_choose, self._is_active = False, True
            self._opener.submit(self._choose)

    def rest(self) -> None:
        """End the timing, and begin none before the next image is answered."""
        self._is_active = False
        self.cancel()

    def cancel(self) -> None:
        """End the timing that goes on, if there is one; the next image may begin it again."""
        process, self._process = self._process, None
        if process is not None:
            process.cancel()
            self._may_choose = self._to_time() is not None

    # In the opener's thread

    def _choose(self) -> None:
        options = self._to_time()
        if options is None or self._use_fastest(options).is_exact or self._is_tried(options):
            return
        if self._is_active:
            self._start(options)
        else:
            self._may_choose = True

    def _is_tried(self, options: RunOptions) -> bool:
        """Whether this size is being timed, or could not be in this activation."""
        process, size = self._process, options.sizes[:1]
        return process is not None and process.options.sizes[:1] == size

    def _use_fastest(self, options: RunOptions) -> Remembered:
        """Open what was timed to be the fastest unless it runs; return what is known."""
        from compact_yolo_ros.backends.remembered import recall  # the start does not need it

        model = options.find_model()
        timed = recall(model, options.resolved(model.card))
        before, self._known = self._known, str(timed)
        if timed.problem:
            self._log.warning(timed.problem)
        way, backend = timed.fastest, self._detector.backend
        if way is None:
            return timed
        if self._known != before:
            self._log.info(f"Fastest on this CPU: {timed}")
        running = (backend.name, backend.precision, backend.threads)
        if running != (way.backend, way.precision, way.threads):
            self._use(open_backend(options))
        return timed

    def _start(self, options: RunOptions) -> None:
        self.cancel()  # that of another size
        self._may_choose = False
        self._log.info(
            "Timing the runtimes for this model in the background, once; the parameter "
            "backend_timing: false leaves that out"
        )
        self._process = process = BuildProcess(TIMING, options, self._log)
        then = partial(self._opener.submit, partial(self._use_timed, process))
        process.follow(then, partial(self._leave_untimed, process))
        if not self._is_active:  # since a moment ago
            self.cancel()

    def _use_timed(self, process: BuildProcess) -> None:
        options = self._to_time()
        if process is self._process and options is not None:
            self._process = None
            self._use_fastest(options)

    def _leave_untimed(self, process: BuildProcess, reason: str) -> None:
        process.state = f"failed: {reason}"
        self._log.warning(f"staying with {self._detector.backend.name}, not timed: {reason}")

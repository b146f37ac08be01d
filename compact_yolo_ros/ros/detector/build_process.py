# SPDX-License-Identifier: Apache-2.0
"""A process that prepares a backend while the node works: builds an engine, or times runtimes.

That takes up to minutes and much memory. In its own process it can be ended at any moment, holds no
lock of this one, and gives all its memory back.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from threading import Thread
from time import monotonic

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.ros.detector.logger import Logger

ENGINES = "compact_yolo_ros.backends.engine_build"
TIMING = "compact_yolo_ros.detection.timing"
"""What such a process may run."""
LOG_PERIOD = 15.0
"""Seconds between two lines of progress in the log; /diagnostics has the newest."""


class BuildProcess:
    """A process that prepares a model.

    Attributes:
        options: with what the result can be opened.
        state: one line for /diagnostics.
        failure: why there is no result; empty if there is one, or may still be.
    """

    def __init__(self, module: str, options: RunOptions, logger: Logger) -> None:
        """Start ``module`` for all input sizes of ``options``."""
        self.options = options
        self.state = "starting"
        self.failure = ""
        self._is_cancelled = False
        self._log = logger
        # Imported late: they are not needed where nothing is prepared.
        import subprocess

        from compact_yolo_ros.backends.arguments import to_arguments

        arguments = to_arguments(options, leave_out=("backend", "threads"))
        self._process = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the node, which then ends the build
        )

    def follow(self, succeeded: Callable[[], None], failed: Callable[[str], None]) -> Thread:
        """Follow it to its end, in a thread of its own, and call one of two unless it is cancelled.

        Args:
            succeeded: is called when its result is there.
            failed: is called with the reason when there will be none.

        Returns:
            The thread, which calls and then ends.
        """

        def wait() -> None:
            failure = self._wait()
            if failure:
                failed(failure)
            elif not self._is_cancelled:
                succeeded()

        follower = Thread(target=wait, name="backend preparation", daemon=True)
        follower.start()
        return follower

    def _wait(self) -> str:
        """Log its progress, for minutes; return why it failed, empty if it did not."""
        assert self._process.stdout is not None
        logged = float("-inf")
        with self._process.stdout as lines:
            for line in lines:
                self.state = line.strip() or self.state
                if monotonic() - logged >= LOG_PERIOD:
                    logged = monotonic()
                    self._log.info(self.state)
        code = self._process.wait()
        if self._is_cancelled or code == 0:
            return ""
        return self.state if code > 0 else _killed(-code)

    def cancel(self) -> None:
        """End it if it still runs; what follows it ends then."""
        self._is_cancelled = True
        self._process.kill()


def _killed(number: int) -> str:
    why = ", as Linux does when memory runs out" if number == signal.SIGKILL else ""
    return f"its process was ended by signal {number} ({signal.strsignal(number)}){why}"

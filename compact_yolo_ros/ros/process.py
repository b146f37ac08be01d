# SPDX-License-Identifier: Apache-2.0
"""Running one node as a process that always ends cleanly, and soon.

Only the standard library is imported here before the signal handlers are set, so that a process
can be stopped while ROS is still being loaded.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from compact_yolo_ros.ros.start_failure import EXPECTED, start_failure
from compact_yolo_ros.support.allocator import keep_freed_memory
from compact_yolo_ros.support.error_text import first_line, printable

if TYPE_CHECKING:
    from rclpy.node import Node

GRACE = 1.5
"""Seconds between a signal and the end of the process, unless the node needs more to close."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOST_CAUSES = 100
"""Different causes that are logged."""


def run_node(factory: Callable[[], Node], args: list[str] | None = None) -> int:
    """Make a node, spin it until SIGINT, SIGTERM or ROS's shutdown, and return the exit code.

    For the main thread of a process, once. A node that raises ``SystemExit`` in a callback or in
    ``close`` ends the process with that code, one that raises anything else with a traceback and
    1; the first code that is not 0 counts, also if the node hangs then and a signal ends it. A
    message that rclpy cannot read is logged and outlived. If the node has a ``close`` method, it is
    called before the node is destroyed: there it joins its threads. A node that would lose
    something without it says in ``close_within`` how many seconds after a signal it may take; if it
    has not closed by then, that is said and the code is 1. A ``ValueError`` of the factory, or a
    parameter that ROS refuses, is a mistake of the user: its sentence is logged and the code is 1.
    So is what keeps ROS from starting, such as a limit of the machine.

    Args:
        factory: makes the node, in ROS's default context. It may import what it needs: signals
            are handled already.
        args: command line, with the program's name first; None takes the process's own.
    """
    try:
        keep_freed_memory()
        stop = StopRequest()
        # Threads of NumPy's and OpenCV's algebra turn idly for a tenth of a second when they are
        # loaded, on the cores that the start needs. No node multiplies matrices that want them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Messages load a parser for what generates their code, and do without it if it is missing.
        sys.modules.setdefault("rosidl_parser.parser", None)  # type: ignore[arg-type]
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        if stop:
            return 0
        _log_any_text()
        # rclpy's own handlers shut the context down under the feet of whatever is running.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # it has no common type for a bad command line or parameter file
        return _refuse(error, str(start_failure(error)))
    if not stop:
        _attempt(partial(_run, factory, stop), stop)
    _attempt(partial(rclpy.try_shutdown, uninstall_handlers=False), stop)
    return stop.code


def _log_any_text() -> None:
    """Let rclpy log names of files that are not UTF-8: its C++ has no such texts.

    One may be in the sentence, or in the path of the module that logs it.
    """
    from rclpy.impl import implementation_singleton

    rclpy: Any = implementation_singleton.rclpy_implementation
    log = getattr(rclpy, "rclpy_logging_rcutils_log", None)
    if log is None:  # a version that logs otherwise: no reason not to start
        return

    def log_printable(*values: object) -> None:
        log(*(printable(value) if isinstance(value, str) else value for value in values))

    rclpy.rclpy_logging_rcutils_log = log_printable


class StopRequest:
    """SIGINT and SIGTERM as an event, noticed at once even if the main thread is in a long call.

    No exception is raised at the place where a signal arrives. Python writes the signal's number to
    a pipe; a thread reads it, and ends the process if it still runs some seconds later.

    Attributes:
        grace: seconds between a signal and the end of the process, however busy it is.
        may_lose: whether something is lost if the process is ended now.
        code: with which the process ends, also if it is ended; 1 instead of 0 if something is lost.
    """

    def __init__(self) -> None:
        """Take over both signals for the rest of the process."""
        self.grace = GRACE
        self.may_lose = False
        self.code = 0
        self._requested = False
        self._wake: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._pipe, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _leave_to_the_pipe)
        # At its very end the interpreter restores the default, which kills with another exit code.
        atexit.register(_ignore_signals)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def __bool__(self) -> bool:
        """Whether to stop."""
        return self._requested

    def wake_by(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` in another thread when the process is to stop, or now if it is already.

        None removes it; once this has returned, it is not running any more.
        """
        with self._lock:
            self._wake = wake
            if self._requested and wake is not None:
                wake()

    def _watch(self) -> None:
        while os.read(self._pipe, 1)[0] not in SIGNALS:
            pass
        signalled = time.monotonic()
        # ROS may have been shut down in the meantime, and what wakes the main thread with it.
        with self._lock, suppress(Exception):
            self._requested = True
            if self._wake is not None:
                self._wake()
        _sleep_until(signalled + GRACE)
        _sleep_until(signalled + self.grace)  # which a node that was made meanwhile may have asked
        if self.may_lose:
            # Not by sys.stderr: the main thread may hold its lock.
            sentence = (
                f"the node had not closed after {self.grace:g} s: the last of its data is lost"
            )
            with suppress(OSError):  # what read it may be gone
                os.write(2, f"compact_yolo_ros: {sentence}\n".encode())
        os._exit(self.code or int(self.may_lose))


def _attempt(work: Callable[[], int | None], stop: StopRequest) -> None:
    """Do something, and note how it ends at once: what comes then may hang until a signal.

    Args:
        work: returns an exit code, or None for 0, or raises SystemExit; anything else that it
            raises is a bug.
        stop: gets the code, unless it has another one already.
    """
    try:
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        with suppress(OSError):  # what read it may be gone, but what comes then must be done
            traceback.print_exc()
        code = 1
    stop.code = stop.code or code


def _run(factory: Callable[[], Node], stop: StopRequest) -> int:
    from rclpy.exceptions import ParameterException

    try:
        node = factory()
    except (ValueError, ParameterException) as error:
        return _refuse(error, first_line(error))
    except EXPECTED as error:
        return _refuse(error, str(start_failure(error)))
    close_within = getattr(node, "close_within", 0.0)
    stop.grace, stop.may_lose = max(GRACE, close_within), close_within > 0
    _attempt(partial(_spin, node, stop), stop)
    if hasattr(node, "close"):
        _attempt(node.close, stop)
    stop.grace, stop.may_lose = GRACE, False
    _attempt(node.destroy_node, stop)
    return 0


def _spin(node: Node, stop: StopRequest) -> None:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # Not spin_until_future_complete: until Kilted it keeps a callback for every spin.
    stop.wake_by(node.create_guard_condition(lambda: None).trigger)
    refused: set[str] = set()
    try:
        while rclpy.ok() and not stop:
            try:
                executor.spin_once()
            except (ValueError, TypeError, OverflowError) as error:
                _go_on(node, error, refused)
    except ExternalShutdownException:
        pass
    finally:
        stop.wake_by(None)
        executor.shutdown()


def _go_on(node: Node, error: Exception, refused: set[str]) -> None:
    """Outlive a message that rclpy itself cannot read, such as a negative time on /clock.

    Each cause is logged once.

    Raises:
        Exception: ``error``, if it passed through the node's own code: it is a bug then.
    """
    _, *frames = traceback.walk_tb(error.__traceback__)
    if any(not frame.f_globals["__name__"].startswith("rclpy.") for frame, _ in frames):
        raise error
    sentence = f"a message cannot be read ({first_line(error)}): check who publishes to this node"
    if sentence not in refused and len(refused) < MOST_CAUSES:
        refused.add(sentence)
        node.get_logger().error(sentence)


def _refuse(error: Exception, sentence: str) -> int:
    try:
        from rclpy.logging import get_logger
    except Exception:  # rclpy itself may be what cannot be loaded
        print(f"compact_yolo_ros: {sentence}", file=sys.stderr)
        return 1
    logger = get_logger("compact_yolo_ros")
    logger.fatal(sentence)
    logger.debug("".join(traceback.format_exception(error)))
    return 1


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _leave_to_the_pipe(number: int, frame: object) -> None:
    """Do nothing: that a handler is set makes Python write to the pipe."""


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

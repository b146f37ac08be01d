# SPDX-License-Identifier: Apache-2.0
"""Run a probe in its own process: a library may crash, hang or end the process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from time import monotonic

from compact_yolo_ros.apps.doctor.probe import Finding, Probe, problem
from compact_yolo_ros.ros.start_failure import RAISE_THE_LIMIT, TOO_MANY_FILES

REPORT = "report it to the maintainers, together with the output of `doctor --json`"


def isolated(name: str, probe: Probe, seconds: float) -> Iterator[Finding]:
    """Run a probe, yield its findings as they come, and a problem if it fails.

    What it prints goes to standard error.

    Args:
        name: what is examined; the name of that problem.
        probe: yields the findings.
        seconds: time limit, after which it is killed.
    """
    context = multiprocessing.get_context("fork")  # the probe need not be importable by name
    try:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(probe, sender), daemon=True)
        process.start()
    except OSError as error:
        yield _failed(name, error)
        return
    sender.close()
    end = monotonic() + seconds
    try:
        while receiver.poll(max(0.0, end - monotonic())):
            yield receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode:
            yield problem(name, f"the examination {_ending(process.exitcode)}", REPORT)
    else:
        yield problem(name, f"the examination did not end within {seconds:.0f} s", REPORT)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(probe: Probe, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills this process
    os.dup2(2, 1)
    try:
        for finding in probe():
            sender.send(finding)
    except BaseException as error:  # a library may even call sys.exit
        sender.send(_failed("examination", error))


def _failed(name: str, error: BaseException) -> Finding:
    remedy = RAISE_THE_LIMIT if TOO_MANY_FILES in str(error) else REPORT
    return problem(name, f"it failed: {type(error).__name__}: {error}", remedy)


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"crashed ({signal.Signals(-exit_code).name})"
    return f"ended by itself with code {exit_code}"

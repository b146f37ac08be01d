# SPDX-License-Identifier: Apache-2.0
"""Why ROS or a node cannot start, and what to do about it. Needs no ROS."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from compact_yolo_ros.support.error_text import first_line, one_line

EXPECTED = (ValueError, ImportError, OSError, RuntimeError, MemoryError)
"""What rclpy, whose own errors are RuntimeErrors, and the libraries below it raise because of the
surroundings of a process. Anything else is a bug."""
TOO_MANY_FILES = os.strerror(errno.EMFILE)
RAISE_THE_LIMIT = "raise the limit, for example with ulimit -n 1024"
REMEDIES = {
    "initialize logging": "set HOME or ROS_LOG_DIR to a folder that can be written",
    "multiarray failed to import": "a module was built for another NumPy: `doctor` has the remedy",
    "failed to map segment": "give the process more memory (ulimit -v)",
    os.strerror(errno.ENOMEM): "give the process more memory (ulimit -v)",
    os.strerror(errno.EAGAIN): "give the process more threads and memory (ulimit -u, ulimit -v)",
}
"""What to do by a part of an error's text."""
SOURCE_LINE = re.compile(r", at \S+:\d+\b")
"""Where ROS's own source found an error; it says nothing to a user."""


class StartFailure(NamedTuple):
    """Why something cannot start.

    Attributes:
        cause: what happened.
        remedy: what to do; empty if the cause says it.
    """

    cause: str
    remedy: str = ""

    def __str__(self) -> str:
        """Both in one sentence."""
        return f"{self.cause}: {self.remedy}" if self.remedy else self.cause


def start_failure(
    error: BaseException, environment: Mapping[str, str] = os.environ
) -> StartFailure:
    """Explain an exception of ``rclpy.init``, or of making a node.

    Args:
        error: one of ``EXPECTED``.
        environment: variables of the process.
    """
    cause = f"ROS cannot start: {SOURCE_LINE.sub('', first_line(error))}"
    whole = one_line(error)
    if TOO_MANY_FILES in whole:  # not always in the first line
        return StartFailure(f"ROS cannot start: {TOO_MANY_FILES.lower()}", RAISE_THE_LIMIT)
    for part, remedy in REMEDIES.items():
        if part in whole:
            return StartFailure(cause, remedy)
    if environment.get("ROS_SECURITY_ENABLE") == "true":
        keystore = environment.get("ROS_SECURITY_KEYSTORE") or "not set"
        return StartFailure(
            f"{cause} (DDS security is on, ROS_SECURITY_KEYSTORE is {keystore})",
            "give a keystore with an enclave for this node, made with this ROS_DOMAIN_ID, or unset "
            "ROS_SECURITY_ENABLE",
        )
    return StartFailure(cause)

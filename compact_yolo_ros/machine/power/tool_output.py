# SPDX-License-Identifier: Apache-2.0
"""The output of a command-line tool that may be missing, refuse, hang or never end."""

from __future__ import annotations

import subprocess


def output_of(*command: str, seconds: float) -> str:
    """Return what the command printed, which may be nothing; it is killed after ``seconds``."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
        )
        printed: bytes | None = done.stdout
    except subprocess.TimeoutExpired as late:
        printed = late.stdout
    except OSError:
        printed = None
    return (printed or b"").decode(errors="replace")

# SPDX-License-Identifier: Apache-2.0
"""Asking a command-line tool that may be missing, refuse, never end or hang."""

from __future__ import annotations

import subprocess


def output_of(*command: str, seconds: float) -> str:
    """What the command printed before it ended or was ended after ``seconds``; may be empty."""
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

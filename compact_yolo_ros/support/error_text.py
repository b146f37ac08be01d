# SPDX-License-Identifier: Apache-2.0
"""Texts of others, as a part of our sentences: messages of exceptions, and names of files."""

from __future__ import annotations

LONGEST_NAME = 100
"""Letters of a name or path of the user's that are repeated in a sentence."""


def shortened(name: object) -> str:
    """Return a name or path, or its two ends if it is long."""
    text, half = str(name), LONGEST_NAME // 2
    return text if len(text) <= LONGEST_NAME else f"{text[:half]}...{text[-half:]}"


def printable(text: str) -> str:
    """Return a text that is UTF-8, as ROS needs: other letters of a file's name become ``?``."""
    return text.encode(errors="replace").decode()


def is_utf8(text: str) -> bool:
    """Whether a text can be UTF-8: names of files, and hostile texts, need not be."""
    return printable(text) == text


def first_line(error: object) -> str:
    """Return the first line of the message, or the name of the type if it is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def reason(error: BaseException) -> str:
    """Why a file cannot be used: the system's words without the path, or the whole message."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


def one_line(error: object) -> str:
    """Return the whole message in one line."""
    return " ".join(str(error).split())

# SPDX-License-Identifier: Apache-2.0
"""What an exception of some library says, as a part of a sentence of ours."""

from __future__ import annotations


def first_line(error: object) -> str:
    """The first line, or the name of the type where there is none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def one_line(error: object) -> str:
    """All of it, in one line."""
    return " ".join(str(error).split())

# SPDX-License-Identifier: Apache-2.0
"""Kinds of command-line arguments that several commands have, for ``type=`` of argparse."""

from __future__ import annotations

import math
import re
from argparse import (
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    _ArgumentGroup,
)
from collections.abc import Callable
from typing import Any

LARGEST = 1e9
"""Largest number that is accepted."""
Options = ArgumentParser | _ArgumentGroup
"""What an option is added to: all of a command's, or those below one heading of its help."""


def renaming(text: str) -> tuple[str, str]:
    """Read ``MODEL_CLASS=LABEL_CLASS``.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise ArgumentTypeError(f"'{text}' is not of the form MODEL_CLASS=LABEL_CLASS")
    return old, new


class _Renamings(Action):
    """Adds pairs to those that were given before; a class with two new names is an error."""

    def __call__(self, _: object, options: Namespace, pairs: Any, __: object = None) -> None:
        found = dict(getattr(options, self.dest))
        for old, new in pairs:
            if found.setdefault(old, new) != new:
                raise ArgumentError(self, f"'{old}' has two new names: '{found[old]}' and '{new}'")
        setattr(options, self.dest, list(found.items()))


def add_rename(
    parser: Options,
    option: str = "--rename",
    meaning: str = "classes that have another name in the data",
) -> None:
    """Add ``--rename``, or another option, that is a list of pairs as ``renaming`` reads them."""
    parser.add_argument(
        option,
        type=renaming,
        nargs="+",
        action=_Renamings,
        default=[],
        metavar="MODEL_CLASS=LABEL_CLASS",
        help=meaning,
    )


def width_x_height(text: str) -> tuple[int, int]:
    """Read the size of an image, ``1920x1080``: width and height in pixels.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise ArgumentTypeError(f"'{text}' is not like 1920x1080")
    return int(found[1]), int(found[2])


def finite(text: str) -> float:
    """Read a number of seconds or the like: neither infinite nor beyond ``LARGEST``.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ArgumentTypeError(f"'{text}' is not a number up to {LARGEST:g}")
    return value


def positive(text: str) -> float:
    """Read a number above 0.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    value = finite(text)
    if value <= 0:
        raise ArgumentTypeError(f"'{text}' is not above 0")
    return value


def whole_number(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least ``least``, which is 0 or more."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
            raise ArgumentTypeError(f"'{text}' is not a whole number, {least} or more")
        return int(text)

    return read

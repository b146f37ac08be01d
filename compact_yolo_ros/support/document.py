# SPDX-License-Identifier: Apache-2.0
"""What a document in YAML or JSON may hold, whoever wrote it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class DocumentError(ValueError):
    """The document cannot be used; the message tells why: "it is not JSON: ..."."""


@dataclass(frozen=True)
class Limits:
    """How large a document may be.

    Attributes:
        size: in bytes.
        values: number of keys and values; what an alias of YAML stands for counts each time.
        depth: of lists and objects within each other.
    """

    size: int = 4_000_000
    values: int = 100_000
    depth: int = 64

    def check_size(self, text: str | bytes) -> None:
        """Raise DocumentError if a text is too large."""
        if len(text) > self.size:
            raise DocumentError(f"it is larger than {self.size / 1e6:g} MB")

    def check_values(self, count: int) -> None:
        """Raise DocumentError if there are too many values."""
        if count > self.values:
            raise DocumentError(f"it has more than {self.values} values")

    def check_depth(self, depth: int) -> None:
        """Raise DocumentError if lists and objects lie too deep within each other."""
        if depth > self.depth:
            raise DocumentError(f"its lists and objects are nested deeper than {self.depth}")


SMALL = Limits()
"""For files that people write or that describe a model or a run."""
LARGE = Limits(size=64_000_000, values=2_000_000)
"""For files that grow with the length of a recording or a run."""


def key_twice(key: object) -> DocumentError:
    """The error of a key that an object has twice."""
    return DocumentError(f"it has the key {reprlib.repr(key)} twice")


def check_content(content: Any, limits: Limits) -> None:
    """Check number and depth of all values, and that each is finite and can be written.

    Raises:
        DocumentError: one is not.
    """
    level, depth, count = [content], 0, 1
    while level:
        for value in level:
            _check_scalar(value)
        level = [value for value in level if isinstance(value, list | dict)]
        depth += bool(level)
        limits.check_depth(depth)
        count += sum(len(value) * (2 if isinstance(value, dict) else 1) for value in level)
        limits.check_values(count)
        level = [inner for value in level for inner in _inner(value)]


def check_depth(content: Any, limits: Limits) -> None:
    """Check the depth only, which is fast; raises DocumentError."""
    level, depth = [content], 0
    while level:
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is list or type(inner) is dict
        ]
        depth += 1
        limits.check_depth(depth)


def _inner(value: list[Any] | dict[Any, Any]) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, dict) else value


def _check_scalar(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DocumentError(f"it has the number {value}: give a finite one")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise DocumentError("it has a whole number of more than 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode(errors="surrogateescape")  # names of files that are not in UTF-8
        except UnicodeEncodeError:
            raise DocumentError("it has a text with half a character (a surrogate)") from None

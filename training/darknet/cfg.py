# SPDX-License-Identifier: Apache-2.0
"""Darknet's cfg files: ``[section]`` headers, each followed by ``key=value`` lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

# The largest number in a cfg: products of four of them fit into 64 bits.
MOST = 2**14
ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool", "avg": "avgpool"}


class DarknetError(ValueError):
    """A darknet file cannot be used; the message is one sentence that says which part and why."""


@dataclass(frozen=True)
class Section:
    """One ``[kind]`` with its options.

    Attributes:
        kind: of the section.
        line: where it begins, from 1.
        options: values by key, as text.
        repeated: lines at which a key has another value than before. Programs disagree about which
            one they use, so these keys cannot be read.
    """

    kind: str
    line: int
    options: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"[{self.kind}] at line {self.line}"

    def text(self, key: str, default: str | None = None) -> str:
        """Return an option as text.

        Raises:
            DarknetError: it is missing, and there is no default; or it has two values.
        """
        value = self.option(key, default)
        if value is None:
            raise DarknetError(f"{self} does not say '{key}'")
        return value

    def option(self, key: str, default: str | None = None) -> str | None:
        """Return an option as text, or ``default`` if it is missing.

        Raises:
            DarknetError: it has two values.
        """
        if key in self.repeated:
            line = self.repeated[key]
            raise DarknetError(f"line {line} gives {self} another '{key}' than before")
        return self.options.get(key, default)

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Return an option that is a whole number from ``least`` to MOST."""
        value = self._parsed(key, default, int, "a whole number")
        if not least <= value <= MOST:
            raise DarknetError(f"{self} has {key}={value}: it must be from {least} to {MOST}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return an option that is a number."""
        return self._parsed(key, default, _finite, "a number")

    def wholes(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return an option that is a list of whole numbers with commas between them."""
        return self._parsed(key, default, _list_of(int), "a list of whole numbers")

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return an option that is a list of numbers with commas between them."""
        return self._parsed(key, None, _list_of(_finite), "a list of numbers")

    def _parsed(self, key: str, default: T | None, parse: Callable[[str], T], what: str) -> T:
        if key not in self.options and default is not None:
            return default
        text = self.text(key)
        try:
            return parse(text)
        except ValueError:
            raise DarknetError(f"{self} has {key}={text}, which is not {what}") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _list_of(kind: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(kind(item) for item in text.split(","))


def parse_cfg(text: str) -> list[Section]:
    """Parse the text of a cfg file to its sections, in order.

    As in darknet, blanks are removed everywhere, and ``#`` or ``;`` begin a comment.

    Raises:
        DarknetError: a line cannot be read; the sentence names it.
    """
    sections: list[Section] = []
    for number, raw in enumerate(re.split("\r\n?|\n", text), 1):
        line = "".join(re.split("[#;]", raw)[0].split())
        if not line:
            continue
        if line.startswith("["):
            if not re.fullmatch(r"\[[^\[\]=]+\]", line):
                raise DarknetError(f"line {number}, '{line}', is not a [section]")
            kind = line[1:-1]
            sections.append(Section(ALIASES.get(kind, kind), number))
            continue
        key, equals, value = line.partition("=")
        if not (key and equals and value):
            raise DarknetError(f"line {number}, '{line}', is neither [section] nor key=value")
        if not sections:
            raise DarknetError(f"line {number}, '{line}', comes before the first [section]")
        section = sections[-1]
        if section.options.setdefault(key, value) != value:
            section.repeated.setdefault(key, number)
    return sections

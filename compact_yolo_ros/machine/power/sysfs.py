# SPDX-License-Identifier: Apache-2.0
"""Read small files of sysfs, any of which may be missing, locked or hold nonsense."""

from __future__ import annotations

from pathlib import Path


class Tree:
    """Reads files below ``root`` and keeps the reasons why some could not be read."""

    def __init__(self, root: Path, known: dict[str, list[Path]] | None = None) -> None:
        """Read below ``root``; ``known`` keeps what was found, for the next tree."""
        self.root = root
        self.problems: list[str] = []
        self._known = {} if known is None else known

    def find(self, pattern: str) -> list[Path]:
        """Sorted paths below the root that match; none if a folder cannot be listed."""
        if pattern not in self._known:
            try:
                self._known[pattern] = sorted(self.root.glob(pattern))
            except OSError:
                self._known[pattern] = []
        return self._known[pattern]

    def text(self, path: Path, *, optional: bool = False) -> str | None:
        """Return the file's text without surrounding white space; None if it cannot be read.

        Args:
            path: a path below the root.
            optional: the file may well be missing: do not keep a reason.
        """
        try:
            return path.read_text(errors="replace").strip()
        except OSError as error:
            if not optional:
                self._note(path, (error.strerror or str(error)).lower())
            return None

    def number(
        self, path: Path, low: float, high: float, *, scale: float = 1.0, optional: bool = False
    ) -> float | None:
        """Return the number in the file times ``scale``; None outside ``low`` to ``high``."""
        text = self.text(path, optional=optional)
        if text is None:
            return None
        try:
            value = float(text) * scale
        except ValueError:
            value = float("nan")
        if low <= value <= high:
            return value
        if not optional:
            self._note(path, f"'{text[:40]}' makes no sense")
        return None

    def _note(self, path: Path, reason: str) -> None:
        self.problems.append(f"/{path.relative_to(self.root)}: {reason}")

# SPDX-License-Identifier: Apache-2.0
"""What could not be read of a recording, counted once however often and by whomever it was read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from compact_yolo_ros.recordings.storage import Loss


class Counted(NamedTuple):
    """Losses of one kind in a file, as they are written down.

    Attributes:
        file: absolute path.
        what: as in ``Loss``.
        counts: how many by their places.
    """

    file: str
    what: str
    counts: dict[str, int]


class Losses:
    """A sentence for everything that could not be read.

    Parts of a recording are read by several processes, some of it several times: a damaged place
    that two of them met counts once, and the places of a file make one sentence.
    """

    def __init__(self, sentences: Iterable[str] = (), counted: Iterable[Counted] = ()) -> None:
        """Begin with what is known already; see ``told`` and ``counted``."""
        self._told = dict.fromkeys(sentences)
        self._counts = {(each.file, each.what): dict(each.counts) for each in counted}

    @property
    def told(self) -> list[str]:
        """The sentences about what cannot be counted."""
        return list(self._told)

    @property
    def counted(self) -> list[Counted]:
        """Everything else."""
        return [Counted(*kind, counts) for kind, counts in self._counts.items()]

    def note(self, found: Iterable[str | Loss], file: Path) -> None:
        """Add what was found in a file."""
        for item in found:
            if isinstance(item, str):
                self._told[item] = None
            else:
                kind = str(file.absolute()), item.what
                self._counts.setdefault(kind, {})[str(item.place)] = item.number

    def add(self, other: Losses) -> None:
        """Add what another reader met."""
        self._told |= other._told
        for kind, counts in other._counts.items():
            self._counts.setdefault(kind, {}).update(counts)

    def sentences(self) -> list[str]:
        """Everything, in words."""
        sums = [
            f"{Path(file).name}: {sum(counts.values())} {what}"
            for (file, what), counts in self._counts.items()
        ]
        return [*self._told, *sums]

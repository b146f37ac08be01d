# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: recipe, provenance, checkpoints and metrics, written atomically."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.files import remove_unfinished, replacing
from compact_yolo_ros.support.folder_lock import locked
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain
from training.data.listing import BadFile
from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.provenance import provenance
from training.loop.recipe import Recipe


class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
        last: checkpoint to continue from.
        best: checkpoint of the best epoch, for evaluation and export only.
        tensorboard: folder of event files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last, self.best = path / "last.pt", path / "best.pt"
        self.tensorboard = path / "tensorboard"
        self._read: tuple[int, int] | None = None

    def read_last(self) -> dict[str, Any] | None:
        """Return the checkpoint to continue from; None: the run has not started.

        Raises:
            ValueError: the file is damaged.
        """
        self._read = _version(self.last)
        return load_checkpoint(self.last) if self._read else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training into the folder, which is made.

        Raises:
            ValueError: another process is training into it, or has done so since ``read_last``.
        """
        in_use = ValueError(
            f"another training is writing into {self.path}: let it end first, or give another --out"
        )
        with locked(self.path, in_use):
            if _version(self.last) != self._read:
                raise ValueError(
                    f"another training has gone on in {self.path} while this one began: give the "
                    "same command again"
                )
            yield

    def begin(
        self,
        recipe: Recipe,
        step: int,
        bad_files: Sequence[BadFile] = (),
        precision: str = "",
    ) -> None:
        """Write the files that describe the run, and add this start to environment.json.

        Args:
            recipe: for recipe.yaml.
            step: optimizer steps done before this start.
            bad_files: images and labels that were left out, for bad_files.txt.
            precision: that this start computes in; empty: the recipe's.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.path)
        starts = self.path / "environment.json"
        entries = _entries(starts) if step and starts.exists() else []
        with replacing(starts) as temporary:
            start = {"step": step, "precision": precision or recipe.precision, **provenance()}
            temporary.write_text(json.dumps([*entries, start], indent=1))
        with replacing(self.path / "recipe.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
        with replacing(self.path / "bad_files.txt") as temporary:
            lines = "".join(f"{path}: {reason}\n" for path, reason in bad_files)
            # Names that are not UTF-8 stay the bytes that they are, so that they can be found.
            temporary.write_text(lines, "utf-8", "surrogateescape")

    def save_last(self, state: dict[str, Any]) -> None:
        """Write the checkpoint to continue from."""
        save_checkpoint(self.last, state)

    def save_best(self, state: dict[str, Any], parts: Sequence[str]) -> None:
        """Write ``parts`` of a checkpoint as the best one."""
        save_checkpoint(self.best, {name: state[name] for name in parts})

    def write_metrics(self, history: Sequence[dict[str, Any]]) -> None:
        """Write metrics.csv, one row for each epoch; cells without a value stay empty."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        with (
            replacing(self.path / "metrics.csv") as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)


def _version(file: Path) -> tuple[int, int] | None:
    """What tells a file from the one that replaces it; None: there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _entries(file: Path) -> list[Any]:
    """The starts that are recorded so far.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return from_plain(list[Any], read_json(file, LARGE))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): move it away to continue") from None

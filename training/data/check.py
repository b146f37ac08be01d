# SPDX-License-Identifier: Apache-2.0
"""Check a data set: counts, sizes of boxes, and files that training would leave out.

    python -m training.data.check --data street/data.yaml

The exit code is 1 if there are bad files, images in two splits, or if training would refuse the
data set.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from compact_yolo_ros.support.arguments import whole_number
from compact_yolo_ros.support.terminal import open_console, print_table, say
from training.data.dataset import BadFile, DataSet, open_split
from training.data.description import DataError
from training.data.findings import refusals, remarks
from training.data.joining import read_classes, split_names

PERCENTILES = (5, 25, 50, 75, 95)


def box_sizes(data: DataSet) -> list[np.ndarray]:
    """Return each class's boxes' sizes (n,): sqrt(area) as a share of the image's long side."""
    sizes: list[list[np.ndarray]] = [[np.zeros(0)] for _ in data.classes]
    for entry in data.entries:
        shown = entry.truth
        sides = shown.boxes[:, 2:] - shown.boxes[:, :2]
        relative = np.sqrt(sides.prod(1)) / max(entry.image.height, entry.image.width)
        for label in np.unique(shown.labels):
            sizes[label].append(relative[shown.labels == label])
    return [np.concatenate(parts) for parts in sizes]


def shared_images(splits: dict[str, DataSet]) -> list[BadFile]:
    """Return the images that an earlier split has too: they would flatter a held-out split."""
    first_of: dict[bytes, tuple[str, Path]] = {}
    result = []
    for name, data in splits.items():
        for entry in data.entries:
            split, path = first_of.setdefault(entry.image.digest, (name, entry.path))
            if split != name:
                result.append(BadFile(entry.path, f"is also in '{split}': {path}"))
    return result


OVERVIEW = ("split", "images", "without boxes", "boxes", "ignored boxes", "bad files")
CLASSES = ("class", "boxes", "images", "unlabelled in", *(f"{p} %" for p in PERCENTILES))


def overview(splits: dict[str, DataSet]) -> list[list[str]]:
    """Return the cells of OVERVIEW for every split."""
    rows = []
    for name, data in splits.items():
        shown = [entry.truth for entry in data.entries]
        ignored = sum(len(truth.ignored) for truth in shown)
        empty = sum(not len(truth) for truth in shown)
        boxes = sum(map(len, shown))
        counts = (len(data), empty, boxes, ignored, len(data.bad_files))
        rows.append([name, *(str(count) for count in counts)])
    return rows


def class_rows(data: DataSet, side: int) -> list[list[str]]:
    """Return the cells of CLASSES; sizes are pixels where the long side has ``side``."""
    rows = []
    shown = [entry.truth for entry in data.entries]
    for label, sizes in enumerate(box_sizes(data)):
        images = sum(bool((truth.labels == label).any()) for truth in shown)
        absent = sum(label in truth.unlabelled for truth in shown)
        percentiles = np.percentile(sizes, PERCENTILES) * side if len(sizes) else np.array([])
        counts = [str(count) for count in (len(sizes), images, absent)]
        measured = [f"{value:.0f}" for value in percentiles] or [""] * len(PERCENTILES)
        rows.append([data.classes[label], *counts, *measured])
    return rows


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a data set: files that training leaves out, and why it would refuse."""

    bad_files: list[BadFile]
    refusals: list[str]


def check(data: Path, side: int, console: Console) -> Verdict:
    """Print the tables of a data set, and what training accepts but nobody may mean.

    Raises:
        DataError: it cannot be used.
    """
    say(console, f"{data}: {', '.join(read_classes(data))}")
    names = split_names(data)
    if not names:
        raise DataError(f"{data} has no split: give train, val or test")
    splits = {name: open_split(data, name, cache="none") for name in names}
    print_table(console, OVERVIEW, overview(splits), "Images")
    for name, split in splits.items():
        title = f"Boxes of {name}; size: √area in pixels at {side}"
        print_table(console, CLASSES, class_rows(split, side), title)
    for name, split in splits.items():
        for sentence in remarks(name, split, side):
            say(console, f"Note: {sentence}.")
    bad_files = [bad for split in splits.values() for bad in split.bad_files]
    return Verdict(bad_files + shared_images(splits), refusals(splits))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Show what is in a data set, and its bad files. Exit code 1 if there are any."
    )
    parser.add_argument("--data", type=Path, required=True, help="data.yaml")
    parser.add_argument(
        "--side", type=whole_number(1), default=320, help="input side that sizes refer to"
    )
    parser.add_argument("--all", action="store_true", help="list every bad file, not the first 20")
    arguments = parser.parse_args()
    logging.getLogger("training.data").setLevel(logging.ERROR)  # its warning names this command
    console = open_console()
    try:
        verdict = check(arguments.data, arguments.side, console)
    except DataError as error:
        sys.exit(str(error))
    bad_files = verdict.bad_files
    listed = bad_files if arguments.all else bad_files[:20]
    for path, reason in listed:
        say(console, f"{path}: {reason}")
    if len(listed) < len(bad_files):
        say(console, f"and {len(bad_files) - len(listed)} more: --all lists them")
    for sentence in verdict.refusals:
        say(console, f"Training would refuse this data set: {sentence}.")
    if bad_files:
        sys.exit(f"Bad files: {len(bad_files)}")
    say(console, "No bad files.")
    if verdict.refusals:
        sys.exit(f"{arguments.data}: {verdict.refusals[0]}")


if __name__ == "__main__":
    main()

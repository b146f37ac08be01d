# SPDX-License-Identifier: Apache-2.0
"""The timings of earlier starts: a small file for each model and machine in the user's cache.

They hold only for the processor, cores and library versions that they were measured with. The file
only chooses among what is installed, so whoever can write it can do no more than that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compact_yolo_ros.backends.fastest import Timing, fastest
from compact_yolo_ros.backends.options import MOST_THREADS
from compact_yolo_ros.backends.processor import processor_digest, usable_time
from compact_yolo_ros.backends.registry import AUTO, BACKENDS
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import cache_folder, replacing, short_name
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

FORMAT = 1
MOST_SIZES, MOST_FILES = 20, 100
"""Sizes of a model and files that are kept."""


@dataclass(frozen=True)
class Subject:
    """What timings are of, and hold for.

    Attributes:
        model: file name without ending, for people.
        sha256: of the file.
        processor: a digest of what Linux says of it.
        cores: numbers of those that this process may use.
        quota: seconds of CPU time that this process may use in a second, as a text.
        libraries: the installed versions of the runtimes.
    """

    model: str
    sha256: str
    processor: str
    cores: tuple[int, ...]
    quota: str
    libraries: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file; other versions of the libraries have the same."""
        text = json.dumps(to_plain(replace(self, libraries={})), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return timings_folder() / f"{short_name(self.model)}-{digest}.json"


@dataclass(frozen=True)
class Record:
    """The content of a file: the timings of a model by input size."""

    format: int
    subject: Subject
    sizes: Mapping[str, tuple[Timing, ...]]

    def __post_init__(self) -> None:
        for size, timings in self.sizes.items():
            if min(Size.parse(size)) < 1:
                raise ValueError(f"no input has a size of {size}")
            if not timings:
                raise ValueError(f"it has no timing at {size}")
            for timing in timings:
                _check(timing)


@dataclass(frozen=True)
class Remembered:
    """What is known of a model at a size.

    Attributes:
        size: the size that was timed: the nearest one to that asked for; empty if there is none.
        timings: at that size.
        is_exact: whether it is the size asked for.
        problem: why a file was ignored, for people; empty if none was.
    """

    size: str = ""
    timings: tuple[Timing, ...] = ()
    is_exact: bool = False
    problem: str = ""

    @property
    def fastest(self) -> Timing | None:
        """What to take; None if nothing was timed."""
        return fastest(self.timings) if self.timings else None

    def __str__(self) -> str:
        if not self.timings:
            return self.problem or "not timed yet"
        chosen = fastest(self.timings)
        others = ", ".join(str(timing) for timing in self.timings if timing != chosen)
        return f"{chosen}, timed here at {self.size}" + (f" beside {others}" if others else "")


def timings_folder() -> Path:
    """The folder of the files; raises RuntimeError if the home folder is not known."""
    return cache_folder("timings").expanduser()


def recall(model: ModelFile, options: RunOptions) -> Remembered:
    """Look up what was timed.

    Args:
        model: the file.
        options: resolved; only the first input size matters.
    """
    path = Path("the cache")
    try:
        subject = subject_of(model)
        path = subject.path
        record = _read(path)
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValueError, RuntimeError) as error:
        return Remembered(problem=f"the timings in {path} are ignored: {reason(error)}")
    if record.subject != subject or not record.sizes:
        return Remembered()
    size = _nearest(record.sizes, options)
    return Remembered(size, record.sizes[size], size == str(options.sizes[0]))


def _nearest(sizes: Iterable[str], options: RunOptions) -> str:
    """The size that says most of the first size that is asked for.

    Where that will fit images which are not known yet, it is the one timed last of those that have
    its long side: what fitted the camera at the last start.
    """
    wanted = options.sizes[0]
    known = {Size.parse(text): text for text in sizes}
    considered = list(known)
    if isinstance(options.input_sizes[0], int) and not options.image_sizes:
        considered = [size for size in known if max(size) == max(wanted)][-1:] or considered
    return known[min(considered, key=lambda size: abs(size.area - wanted.area))]


def remember(model: ModelFile, options: RunOptions, timings: Sequence[Timing]) -> None:
    """Keep the timings of a size, beside those of other sizes.

    Raises:
        OSError: they cannot be written.
        RuntimeError: the home folder is not known.
    """
    subject = subject_of(model)
    path = subject.path
    sizes: dict[str, tuple[Timing, ...]] = {}
    with suppress(OSError, ValueError):
        record = _read(path)
        sizes = dict(record.sizes) if record.subject == subject else {}
    sizes.pop(str(options.sizes[0]), None)
    newest = [*sizes.items(), (str(options.sizes[0]), tuple(timings))][-MOST_SIZES:]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as temporary:
        content = to_plain(Record(FORMAT, subject, dict(newest)))
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    _shrink(path.parent)


def subject_of(model: ModelFile) -> Subject:
    """What timings of a model on this machine hold for."""
    return Subject(
        model=model.path.stem,
        sha256=model.sha256,
        processor=processor_digest(),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        quota=f"{usable_time():g}",
        libraries={
            library.name: library.installed
            for info in BACKENDS.values()
            if info.runs_on == "CPU"
            for library in info.libraries
        },
    )


def _read(path: Path) -> Record:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it is none of this version's")
    return from_plain(Record, content)


def _check(timing: Timing) -> None:
    """Raise ValueError if a timing cannot be one of this package."""
    from compact_yolo_ros.backends.options import PRECISIONS

    info = BACKENDS.get(timing.backend)
    if info is None or info.runs_on != "CPU":
        raise ValueError(f"no backend on the CPU is called {timing.backend!r:.40}")
    if timing.precision not in PRECISIONS or timing.precision == AUTO:
        raise ValueError(f"no precision is called {timing.precision!r:.40}")
    if not 1 <= timing.threads <= MOST_THREADS or not (timing.ms > 0 and timing.cpu_ms > 0):
        raise ValueError("it has threads or milliseconds that cannot be")


def _shrink(folder: Path) -> None:
    """Remove the oldest files beyond ``MOST_FILES``."""
    with suppress(OSError):  # another process tidies up at the same time
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-MOST_FILES]:
            path.unlink()

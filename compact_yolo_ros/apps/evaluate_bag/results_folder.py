# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: which run it belongs to, and the logs of its frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameResult, read_frame_log, read_lost
from compact_yolo_ros.apps.evaluate_bag.job import Job, Runtime
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.losses import Losses
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support import folder_lock
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain

IDENTITY = "run.json"
SESSIONS = "sessions.jsonl"
RESULTS = "results.json"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise BagError(f"cannot write {path}: {why}; nothing of it was left behind") from None


def log_path(folder: Path, part: int) -> Path:
    """Where the frame results of a part are."""
    return folder / "log" / f"part_{part:02}.jsonl"


def read_frame_results(folder: Path) -> Iterator[FrameResult]:
    """Yield the frame results of all parts in their order."""
    for path in _logs(folder):
        yield from read_frame_log(path)


def lost_in(folder: Path) -> Losses:
    """What could not be read of all parts."""
    found = Losses()
    for path in _logs(folder):
        found.add(read_lost(path))
    return found


def _logs(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("part_*.jsonl"))


@dataclass(frozen=True)
class RunIdentity:
    """What makes two runs the same, however their paths are written.

    Attributes:
        options: those of the job, by their names.
        recording: size in bytes and time of change in ns of each file.
        model_sha256: of the model file.
        recorded: as ``recording``, of the files of a live node; empty if the model itself is run.
        runtime: what it is run with.
    """

    options: dict[str, Any]
    recording: dict[str, tuple[int, ...]]
    model_sha256: str
    recorded: dict[str, tuple[int, ...]]
    runtime: Runtime | None

    @classmethod
    def of(cls, job: Job, bag: Bag) -> RunIdentity:
        """The identity of a job; ModelError if there is no such model."""
        options = asdict(job) | {"bags": [str(path.resolve()) for path in job.bags]}
        options |= options.pop("options")
        node = options.pop("recorded")
        for name in ("runtime", "sha256"):  # see below
            options.pop(name)
        if job.options.model.endswith(".onnx"):
            options["model"] = str(find_model(job.options.model).path.resolve())
        return cls(
            to_plain(options),
            _versions(bag),
            model_sha256(job.options.model),
            _versions(Bag([node])) if node else {},
            job.runtime,
        )

    def difference(self, other: RunIdentity) -> str:
        """What sort of run the other one is instead of this one; empty if they are the same."""
        if bool(self.recorded) != bool(other.recorded):
            return "of a live node" if other.recorded else "of the model itself"
        for name, value in self.options.items():
            if other.options.get(name) != value:
                return f"with another {name.replace('_', ' ')}"
        if self.recording != other.recording:
            return "with another content of the recording"
        if self.model_sha256 != other.model_sha256:
            return "with another content of the model file"
        if self.recorded != other.recorded:
            return "with another recording of a live node"
        return "with another runtime" if self.runtime != other.runtime else ""


def _versions(bag: Bag) -> dict[str, tuple[int, ...]]:
    """Size in bytes and time of change in ns of each file of a recording."""
    files = {str(path.resolve()): path.stat() for path in bag.files}
    return {name: (facts.st_size, facts.st_mtime_ns) for name, facts in files.items()}


def model_sha256(model: str) -> str:
    """The content of a model's file, by its name or path; ModelError if there is no such model."""
    return find_model(model).sha256


def claim(job: Job, bag: Bag, folder: Path, restart: bool) -> None:
    """Make ``folder`` that of the job; with ``restart``, forget what another run left there.

    Raises:
        BagError: the folder belongs to another job, or cannot be written.
    """
    identity = RunIdentity.of(job, bag)
    path = folder / IDENTITY
    try:
        if restart:
            for left in (*_logs(folder), folder / SESSIONS, folder / RESULTS):
                left.unlink(missing_ok=True)
        elif path.exists():
            _check_same(identity, _read_identity(path), folder)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(to_plain(identity), indent=1) + "\n")
    except OSError as error:
        raise BagError(f"cannot write to {folder}: {error.strerror}") from None


def continued(job: Job, bag: Bag, folder: Path) -> Job:
    """The job with the runtime with which it was begun in ``folder``; unchanged if it was not.

    Raises:
        BagError: the folder belongs to another job, or cannot be read.
    """
    path = folder / IDENTITY
    try:
        if job.runtime is not None or not path.exists():
            return job
        begun = _read_identity(path)
    except OSError as error:
        raise BagError(f"cannot read {path}: {error.strerror}") from None
    same = replace(job, runtime=begun.runtime)
    _check_same(RunIdentity.of(same, bag), begun, folder)
    return same


def _check_same(identity: RunIdentity, begun: RunIdentity, folder: Path) -> None:
    """Raise BagError if another run was begun in a folder."""
    if changed := identity.difference(begun):
        raise BagError(
            f"{folder} holds a run {changed}: give another folder, or --restart to begin again"
        )


def _read_identity(path: Path) -> RunIdentity:
    try:
        return from_plain(RunIdentity, read_json(path, LARGE))
    except ValueError:
        raise BagError(
            f"{path} is damaged, or was written by another version of evaluate_bag: give another "
            "folder, or --restart"
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from evaluating into ``folder``, which is made.

    Raises:
        BagError: another process is evaluating into it, or it cannot be made.
    """
    in_use = BagError(f"another evaluation is writing into {folder}: let it end first")
    with ExitStack() as held:
        try:
            held.enter_context(folder_lock.locked(folder, in_use))
        except OSError as error:
            raise BagError(f"cannot write to {folder}: {error.strerror}") from None
        yield

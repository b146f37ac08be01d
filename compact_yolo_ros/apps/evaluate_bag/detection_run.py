# SPDX-License-Identifier: Apache-2.0
"""Running a detector over a recording: in parts, which may be done by several processes, and in
several goes. ``run`` does it all; ``parts`` and ``run_part`` are for those who spread the parts
themselves.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.frame_results import Log, Record, read_lost, read_records
from compact_yolo_ros.apps.evaluate_bag.playback import as_on_a_robot, every_frame
from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import EVERYTHING
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import FOREVER, BagError
from compact_yolo_ros.support.files import replacing

PARTS = 16
"""Parts of equal recorded time that a recording is cut into; a part is done by one process."""
IDENTITY = "run.json"
SESSIONS = "sessions.jsonl"
RESULTS = "results.json"
POLL = 0.2
"""Seconds between two looks at what the workers have done."""


class Interrupted(Exception):
    """The user wants to stop; what is done is kept."""


@dataclass(frozen=True)
class Job:
    """What to run on what; it can be pickled.

    Attributes:
        bags: recordings, read as one.
        topics: of images.
        model: name or path.
        backend: see ``Detector.open``, also for the next three.
        precision: see there.
        input_size: see there.
        threads: see there.
        start: time of the first frame, in ns.
        stop: time behind the last frame, in ns.
        realtime: answer only what a robot would have answered.
        latency: seconds that a frame takes then, instead of what is measured.
    """

    bags: tuple[Path, ...]
    topics: tuple[str, ...]
    model: str
    backend: str = "auto"
    precision: str = "auto"
    input_size: Size | None = None
    threads: int = 0
    start: int = 0
    stop: int = FOREVER
    realtime: bool = False
    latency: float | None = None

    def open_detector(self) -> Detector:
        """Open the model; see ``Detector.open`` for the errors."""
        options = RunOptions(
            self.model,
            backend=self.backend,
            precision=self.precision,
            input_sizes=(self.input_size,) if self.input_size else (),
            threads=self.threads,
        )
        return Detector.open(options, selection=EVERYTHING)


def parts(job: Job, bag: Bag) -> list[tuple[int, int]]:
    """Times (ns, from and below) of the parts of a job, however many processes there are.

    A simulated robot's clock runs through the whole recording, so that is one part.
    """
    start, stop = max(job.start, bag.start), min(job.stop, bag.end + 1)
    spans = [(max(a, start), min(b, stop)) for a, b in bag.covered if a < stop and b > start]
    if not spans:
        seconds = (bag.end - bag.start) * 1e-9
        raise BagError(f"nothing is left of the recording, which is {seconds:.1f} s long")
    count = 1 if job.realtime else PARTS
    # The time between recordings does not count: they may be of different days.
    whole = sum(b - a for a, b in spans)
    inner = [_after(spans, whole * number // count) for number in range(1, count)]
    edges = [start, *inner, stop]
    return [pair for pair in zip(edges, edges[1:], strict=False) if pair[0] < pair[1]]


def _after(spans: Sequence[tuple[int, int]], elapsed: int) -> int:
    """The time when so much of ``spans`` has passed, all in ns."""
    for start, stop in spans:
        if elapsed < stop - start:
            return start + elapsed
        elapsed -= stop - start
    return spans[-1][1]


def shared(job: Job, workers: int) -> Job:
    """The job with the threads that each of several processes should use.

    They change the speed only, so that it counts as the same job.
    """
    if job.threads or workers == 1:
        return job
    return replace(job, threads=max(1, len(os.sched_getaffinity(0)) // workers))


def log_path(folder: Path, part: int) -> Path:
    """Where the records of a part are."""
    return folder / "log" / f"part_{part:02}.jsonl"


class PartRunner:
    """Runs parts of one job in this process; bag and network are opened once."""

    def __init__(self, job: Job, bag: Bag | None = None) -> None:
        """Open what the job names, unless the bag is open.

        Raises:
            BagError, ModelError, BackendError, ValueError: see there.
        """
        self._job = job
        self._bag = bag or Bag(job.bags)
        self._codec = Codec(self._bag.topics.values())
        self.detector = job.open_detector()

    def run(self, span: tuple[int, int], log: Log, tell: Callable[[], object]) -> None:
        """Run a part to its end from where its log ends; ``tell`` is called for each frame.

        Raises:
            Interrupted: ``tell`` raised it; the log can be gone on with.
            BagError: the log cannot be written.
            BackendError: the network cannot be run.
        """
        if log.complete:
            return
        messages = self._bag.messages(self._job.topics, *span)
        records: Iterator[Record]
        if self._job.realtime:
            records = as_on_a_robot(
                messages,
                self._job.topics,
                self._codec,
                self.detector,
                latency=self._job.latency,
                done=read_records(log.path),
            )
        else:
            records = every_frame(messages, self._codec, self.detector, log.count)
        with closing(records):  # type: ignore[type-var]
            for record in records:
                log.append(record)
                tell()
        log.finish(self._bag.lost)

    def close(self) -> None:
        """Release the network."""
        self.detector.close()


def run(
    job: Job,
    bag: Bag,
    folder: Path,
    *,
    workers: int = 1,
    restart: bool = False,
    tell: Callable[[int], object] = lambda frames: None,
) -> None:
    """Run the whole job, or what an earlier call left to do.

    Args:
        job: what to do.
        bag: its recording.
        folder: where the logs go.
        workers: processes; a realtime job takes one.
        restart: forget what an earlier call did.
        tell: called with the number of frames that are done, in between.

    Raises:
        Interrupted: by SIGINT or SIGTERM.
        BagError: the folder holds another job, or cannot be written.
        ModelError, BackendError: the model cannot be opened or run.
    """
    spans = parts(job, bag)
    claim(job, bag, folder, restart)
    logs = [Log(log_path(folder, number)) for number in range(len(spans))]
    done = sum(log.count for log in logs)
    todo = [number for number, log in enumerate(logs) if not log.complete]
    tell(done)
    try:
        with _interruptible() as stopped:
            if workers > 1 and len(todo) > 1:
                _run_in_processes(job, folder, spans, todo, workers, stopped, done, tell)
            elif todo:
                _run_here(job, bag, [(spans[n], logs[n]) for n in todo], stopped, done, tell)
    finally:
        for log in logs:
            log.close()


def run_part(job: Job, folder: Path, part: int, bag: Bag | None = None) -> None:
    """Run one part on its own: for those who spread the parts over machines.

    ``folder`` then holds its log; ``bag`` is the job's, if it is open. See ``run`` for the errors.
    """
    bag = bag or Bag(job.bags)
    with closing(PartRunner(job, bag)) as runner, closing(Log(log_path(folder, part))) as log:
        runner.run(parts(job, bag)[part], log, lambda: None)


def records_of(folder: Path) -> Iterator[Record]:
    """Yield the records of all parts in their order."""
    for path in sorted((folder / "log").glob("part_*.jsonl")):
        yield from read_records(path)


def lost_in(folder: Path) -> list[str]:
    """What could not be read of all parts."""
    logs = sorted((folder / "log").glob("part_*.jsonl"))
    return list(dict.fromkeys(text for path in logs for text in read_lost(path)))


def identity(job: Job, bag: Bag) -> dict[str, Any]:
    """What makes two runs the same, as plain values: options, recording and model."""
    model = find_model(job.model).path
    options = asdict(job) | {"bags": [str(path) for path in job.bags], "model": job.model}
    return {
        "options": json.loads(json.dumps(options)),
        "recording": {
            str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in bag.files
        },
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }


def claim(job: Job, bag: Bag, folder: Path, restart: bool) -> None:
    """Make ``folder`` that of the job.

    Raises:
        BagError: it is that of another, or cannot be written.
    """
    wanted = identity(job, bag)
    path = folder / IDENTITY
    try:
        if restart:
            logs = (folder / "log").glob("part_*.jsonl")
            for left in (*logs, folder / SESSIONS, folder / RESULTS):
                left.unlink(missing_ok=True)
        elif path.exists() and (changed := _difference(json.loads(path.read_text()), wanted)):
            raise BagError(
                f"{folder} holds a run with another {changed}: give another folder, or --restart "
                "to begin anew"
            )
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1) + "\n")
    except OSError as error:
        raise BagError(f"cannot write to {folder}: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, BagError):
            raise
        raise BagError(f"{path} is damaged: give another folder, or --restart") from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from evaluating into ``folder``, which is made.

    Raises:
        BagError: one is doing so, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise BagError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BagError(
                f"another evaluation is writing into {folder}: let it end first"
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        os.close(handle)


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first thing in which two identities differ; empty if they do not."""
    for name, value in new["options"].items():
        if old.get("options", {}).get(name) != value:
            return name.replace("_", " ")
    names = {"recording": "content of the recording", "model_sha256": "content of the model file"}
    return next((text for name, text in names.items() if old.get(name) != new[name]), "")


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Give an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stopped = Event()
    if current_thread() is not main_thread():
        yield stopped
        return
    before: dict[int, Any] = {}

    def stop(number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(number, before[number])

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        before[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_here(
    job: Job,
    bag: Bag,
    todo: list[tuple[tuple[int, int], Log]],
    stopped: Event,
    done: int,
    tell: Callable[[int], object],
) -> None:
    def frame_done() -> None:
        nonlocal done
        done += 1
        tell(done)
        if stopped.is_set():
            raise Interrupted

    with closing(PartRunner(job, bag)) as runner:
        for span, log in todo:
            runner.run(span, log, frame_done)


class _Worker:
    """What a worker process keeps from part to part."""

    runner: PartRunner
    stopped: Any
    frames: Any

    @classmethod
    def start(cls, job: Job, stopped: Any, frames: Any) -> None:
        # A terminal sends its signals to all processes; only the first one decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        cls.stopped, cls.frames = stopped, frames
        cls.runner = PartRunner(job)

    @classmethod
    def run(cls, span: tuple[int, int], path: Path) -> None:
        if cls.stopped.is_set():
            return
        try:
            with closing(Log(path)) as log:
                cls.runner.run(span, log, cls.frame_done)
        except Interrupted:
            return

    @classmethod
    def frame_done(cls) -> None:
        with cls.frames.get_lock():
            cls.frames.value += 1
        if cls.stopped.is_set():
            raise Interrupted


def _run_in_processes(
    job: Job,
    folder: Path,
    spans: list[tuple[int, int]],
    todo: list[int],
    workers: int,
    stopped: Event,
    done: int,
    tell: Callable[[int], object],
) -> None:
    context = get_context("spawn")  # a forked copy of a runtime's threads hangs
    halt, frames = context.Event(), context.Value("Q", 0)
    job = shared(job, workers)
    job.open_detector().close()  # what is wrong with the model is told here, in one sentence
    pool = ProcessPoolExecutor(
        min(workers, len(todo)), context, initializer=_Worker.start, initargs=(job, halt, frames)
    )
    with pool:
        pending: set[Future[None]] = {
            pool.submit(_Worker.run, spans[n], log_path(folder, n)) for n in todo
        }
        try:
            while pending:
                finished, pending = wait(pending, POLL, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                tell(done + frames.value)
                if stopped.is_set():
                    halt.set()
            if stopped.is_set():
                raise Interrupted
        except BrokenProcessPool:
            raise BagError(
                "a worker process ended unexpectedly, perhaps for want of memory: run the same "
                "command again, with fewer --workers"
            ) from None
        finally:
            halt.set()
            pool.shutdown(cancel_futures=True)

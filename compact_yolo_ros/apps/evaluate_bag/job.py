# SPDX-License-Identifier: Apache-2.0
"""What to run on which recording, and the parts that several processes can share."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from compact_yolo_ros.backends import BackendError, RunOptions
from compact_yolo_ros.backends.options import MOST_THREADS
from compact_yolo_ros.backends.processor import usable_cores
from compact_yolo_ros.backends.registry import BACKENDS
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import ANY_SIZE, EVERYTHING
from compact_yolo_ros.detection.view import PLAIN, View
from compact_yolo_ros.recordings.reader import Bag, time_after
from compact_yolo_ros.recordings.storage import FOREVER, BagError

PARTS = 16
"""Parts of equal recorded time that a recording is cut into; one process runs a part."""


@dataclass(frozen=True)
class Runtime:
    """What a job is run with, where its options leave that open.

    Attributes:
        backend: a key of ``BACKENDS``.
        precision: the one to ask for.
        threads: CPU threads of each process; 0 leaves them to the machine.
        warning: what differs from the options, for people; empty if nothing does.
    """

    backend: str
    precision: str
    threads: int
    warning: str = ""

    def __str__(self) -> str:
        return f"{self.backend}, {self.precision}"


@dataclass(frozen=True)
class Job:
    """A model to run on images of a recording; it can be pickled, and run from any folder.

    Attributes:
        bags: recordings, read as one; relative paths become absolute ones.
        topics: of images.
        options: the model and how to run it.
        start: time of the first frame, in ns.
        stop: time behind the last frame, in ns.
        realtime: answer only the frames that a robot would have answered.
        latency: seconds that a frame takes then, instead of what is measured.
        min_box_size: least width and height of a box in pixels; see ``Selection``.
        max_box_size: most of them; 0 is no limit.
        view: how the network sees the images of all topics.
        recorded: recording of a live node, whose answers are taken instead of running the model, as
            those of a realtime job; None runs it.
        runtime: what it is run with, in all processes and sessions; None chooses when it is opened.
    """

    bags: tuple[Path, ...]
    topics: tuple[str, ...]
    options: RunOptions
    start: int = 0
    stop: int = FOREVER
    realtime: bool = False
    latency: float | None = None
    min_box_size: tuple[int, int] = ANY_SIZE
    max_box_size: tuple[int, int] = ANY_SIZE
    view: View = PLAIN
    recorded: Path | None = None
    runtime: Runtime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bags", tuple(path.absolute() for path in self.bags))
        if self.recorded is not None:
            object.__setattr__(self, "recorded", self.recorded.absolute())

    def open_detector(self) -> Detector:
        """Open the model; see ``Detector.open`` for the errors.

        A recording's frames are there, so that a GPU need not wait for the next one.
        """
        sizes = EVERYTHING.change(min_size=self.min_box_size, max_size=self.max_box_size)
        in_flight = 1 if self.realtime else 2
        options = self.options.change(in_flight=in_flight)
        if self.runtime is None:
            return Detector.open(options, selection=sizes)
        try:
            return Detector.open(_exactly(options, self.runtime), selection=sizes)
        except BackendError as error:
            cures = filter(None, (error.remedy, "or give --restart to choose anew"))
            raise BackendError(
                f"it was begun with {self.runtime}, which cannot be run now: {error.reason}",
                ", ".join(cures),
            ) from None

    def settled(self, workers: int = 1) -> Job:
        """The job with its runtime; the model is opened to find it. See there for the errors."""
        if self.runtime is not None:
            return self
        with closing(self.open_detector()) as detector:
            return self.settled_on(detector, workers)

    def settled_on(self, detector: Detector, workers: int = 1) -> Job:
        """The job with the runtime of its opened model, for so many processes on this machine."""
        if self.runtime is not None:
            return self
        backend, options = detector.backend, self.options
        precision, threads = options.precision, options.threads
        if BACKENDS[backend.name].runs_on == "CPU":
            precision = backend.precision
            threads = threads or (_share(workers) if workers > 1 else backend.threads)
        runtime = Runtime(backend.name, precision, threads, detector.opened.warning)
        return replace(self, runtime=runtime)


def _exactly(options: RunOptions, runtime: Runtime) -> RunOptions:
    """The options with nothing left open; without a DLA where the runtime has none."""
    dla_core = options.dla_core
    if runtime.backend in BACKENDS and not BACKENDS[runtime.backend].has_dla:
        dla_core = -1
    return options.change(
        backend=runtime.backend,
        precision=runtime.precision,
        threads=runtime.threads,
        dla_core=dla_core,
    )


def _share(processes: int) -> int:
    """CPU threads that each of several processes should use."""
    return min(MOST_THREADS, max(1, usable_cores() // processes))


def parts(job: Job, bag: Bag) -> list[tuple[int, int]]:
    """Times (ns, from and below) of the parts of a job, the same for any number of processes.

    A simulated robot's clock runs through the whole recording, so that is one part.

    Raises:
        BagError: there is no recorded time between the job's start and stop.
    """
    spans = recorded(job, bag)
    start, stop = max(job.start, bag.start), min(job.stop, bag.end + 1)
    count = 1 if job.realtime else PARTS
    # The time between recordings does not count: they may be of different days.
    whole = sum(b - a for a, b in spans)
    inner = [time_after(spans, whole * number // count) for number in range(1, count)]
    edges = [start, *inner, stop]
    return [pair for pair in zip(edges, edges[1:], strict=False) if pair[0] < pair[1]]


def recorded(job: Job, bag: Bag) -> list[tuple[int, int]]:
    """Times (ns, from and below) of the recordings between a job's start and stop.

    Raises:
        BagError: there is no recorded time between them.
    """
    start, stop = max(job.start, bag.start), min(job.stop, bag.end + 1)
    spans = [(max(a, start), min(b, stop)) for a, b in bag.recordings if a < stop and b > start]
    if not spans:
        seconds = bag.length * 1e-9
        raise BagError(f"nothing is left of the recording, which is {seconds:.1f} s long")
    return spans

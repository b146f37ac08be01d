# SPDX-License-Identifier: Apache-2.0
"""Running a detector over a recording, by one process or several, continued after interruptions.

``run`` does it all; ``job.parts`` and ``run_part`` serve those who distribute the parts themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameLog, FrameResult, read_frame_log
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts
from compact_yolo_ros.apps.evaluate_bag.playback import as_on_a_robot, every_frame
from compact_yolo_ros.apps.evaluate_bag.results_folder import claim, continued, log_path
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.recordings.video import images
from compact_yolo_ros.support.allocator import keep_freed_memory
from compact_yolo_ros.support.termination import interruptible

POLL = 0.2
"""Seconds between two looks at what the workers have done."""


class Interrupted(Exception):
    """The user stopped the run; what is done is kept."""


class PartRunner:
    """Runs parts of one job in this process; bag and network are opened once.

    From then on the process keeps the memory of a frame for the next one: pages that came anew with
    each would slow the network on the other core, too.
    """

    def __init__(self, job: Job, bag: Bag | None = None) -> None:
        """Open the model of the job, and its recording unless ``bag`` is given.

        Raises:
            BagError, ModelError, BackendError, ValueError: see there.
        """
        keep_freed_memory()
        self._job = job
        self._bag = bag or Bag(job.bags)
        self._codec = Codec(self._bag.topics.values())
        self.detector = job.open_detector()

    def run(self, span: tuple[int, int], log: FrameLog, on_frame: Callable[[], object]) -> None:
        """Run a part (ns, from and below) to its end from where its log ends.

        Args:
            span: the part.
            log: takes the results.
            on_frame: called after each frame.

        Raises:
            Interrupted: ``on_frame`` raised it; the log can be continued.
            BagError: the log cannot be written.
            BackendError: the network cannot be run.
        """
        if log.complete:
            return
        messages = images(self._bag, self._job.topics, *span)
        results: Iterator[FrameResult]
        if self._job.realtime:
            results = as_on_a_robot(
                messages,
                self._job.topics,
                self._codec,
                self.detector,
                latency=self._job.latency,
                done=read_frame_log(log.path),
                view=self._job.view,
            )
        else:
            results = every_frame(messages, self._codec, self.detector, log.count, self._job.view)
        with closing(results):  # type: ignore[type-var]
            for result in results:
                log.append(result)
                on_frame()
        log.finish(self._bag.losses)

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
    progress: Callable[[int], object] = lambda frames: None,
) -> None:
    """Run the whole job, or what an earlier call left to do.

    Args:
        job: what to do.
        bag: its recording.
        folder: where the logs go.
        workers: processes; a realtime job takes one.
        restart: forget what an earlier call did.
        progress: called now and then with the number of frames that are done.

    Raises:
        Interrupted: by SIGINT or SIGTERM.
        BagError: the folder holds another job, or cannot be written.
        ModelError, BackendError: the model cannot be opened or run.
    """
    spans = parts(job, bag)
    job = (job if restart else continued(job, bag, folder)).settled(workers)
    claim(job, bag, folder, restart)
    logs = [FrameLog(log_path(folder, number)) for number in range(len(spans))]
    done = sum(log.count for log in logs)
    todo = [number for number, log in enumerate(logs) if not log.complete]
    progress(done)
    try:
        with interruptible() as stopped:
            if workers > 1 and len(todo) > 1:
                _run_in_processes(job, folder, spans, todo, workers, stopped, done, progress)
            elif todo:
                _run_here(job, bag, [(spans[n], logs[n]) for n in todo], stopped, done, progress)
    finally:
        for log in logs:
            log.close()


def run_part(job: Job, folder: Path, part: int, bag: Bag | None = None) -> None:
    """Run one part on its own: for those who distribute the parts over machines.

    ``folder`` then holds its log; ``bag`` is the job's, if it is open. See ``run`` for the errors.
    """
    bag = bag or Bag(job.bags)
    with closing(PartRunner(job, bag)) as runner, closing(FrameLog(log_path(folder, part))) as log:
        runner.run(parts(job, bag)[part], log, lambda: None)


def _run_here(
    job: Job,
    bag: Bag,
    todo: list[tuple[tuple[int, int], FrameLog]],
    stopped: Event,
    done: int,
    progress: Callable[[int], object],
) -> None:
    def on_frame() -> None:
        nonlocal done
        done += 1
        progress(done)
        if stopped.is_set():
            raise Interrupted

    with closing(PartRunner(job, bag)) as runner:
        for span, log in todo:
            runner.run(span, log, on_frame)


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
            with closing(FrameLog(path)) as log:
                cls.runner.run(span, log, cls.on_frame)
        except Interrupted:
            return

    @classmethod
    def on_frame(cls) -> None:
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
    progress: Callable[[int], object],
) -> None:
    context = get_context("spawn")  # a forked copy of a runtime's threads hangs
    halt, frames = context.Event(), context.Value("Q", 0)
    job.open_detector().close()  # what is wrong with the model is one sentence of this process
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
                progress(done + frames.value)
                if stopped.is_set():
                    halt.set()
            if stopped.is_set():
                raise Interrupted
        except BrokenProcessPool:
            raise BagError(
                "a worker process ended unexpectedly, perhaps for lack of memory: run the same "
                "command again, with fewer --workers"
            ) from None
        finally:
            halt.set()
            pool.shutdown(cancel_futures=True)

# SPDX-License-Identifier: Apache-2.0
"""Which backend the detector runs on: others are opened later, and take over between two images.

While a TensorRT engine is built the CPU does the work; when a backend fails, the CPU takes over. On
the CPU, what opens soonest answers first, and what was timed to be the fastest takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from compact_yolo_ros.backends import (
    BACKENDS,
    Backend,
    BackendError,
    BackendLost,
    MissingEngine,
    Opened,
    RunOptions,
    open_backend,
    open_if_built,
)
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import InputSize, Size
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.ros.detector.build_process import ENGINES, TIMING, BuildProcess, Logger
from compact_yolo_ros.ros.detector.leftovers import END_LIMIT

if TYPE_CHECKING:
    from compact_yolo_ros.backends.remembered import Remembered

ON_CPU = {"backend": "onnxruntime", "precision": "auto", "dla_core": -1, "batch": 1}
"""Changes of the options that lead to the backend that is always there."""
CANNOT_OPEN = (ModelError, BackendError, ValueError)
_Use = Callable[[BuildProcess], None]
_GiveUp = Callable[[BuildProcess, str], None]
FAILURES = 3
"""Failures in a row after which a backend is given up, unless its device is gone."""


class BackendManager:
    """Opens the detector's backend, and others later, in a thread of its own.

    ``succeeded`` and ``failed`` are for the thread that detects, ``warning`` and ``facts`` for any,
    the rest for the thread that made it.

    Attributes:
        detector: what runs on the backend.
        in_use: held by the thread that detects, until that ends.
    """

    def __init__(self, options: RunOptions, opened: Opened | MissingEngine, logger: Logger) -> None:
        """Have a detector that works at once, on the CPU if an engine must be built first.

        Args:
            options: what to run, and how.
            opened: what ``open_at_start`` returned for them.
            logger: is told what changes later.

        Raises:
            BackendError: the model cannot be run on the CPU meanwhile.
        """
        self._options = options
        self._awaits_image = False
        self._log = logger
        self._build: BuildProcess | None = None
        self._timing: BuildProcess | None = None
        self._timed = "waiting for the first image"
        self._may_choose = options.are_for_timing
        self._is_active = False
        self._failures = 0
        self._failed: Backend | None = None
        self._given_up = self._problem = self._refused = self._changing = ""
        self._wanted = options
        self._fallbacks = 0
        self.in_use = Lock()
        self._closed = False
        self._to_open: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # Not an executor: Python waits for the threads of those before it exits.
        self._opener = Thread(target=self._open_queued, name="backend opener", daemon=True)
        if isinstance(opened, MissingEngine):
            self.detector = Detector(self._open_meanwhile(opened, options))
            self._build_engine(opened)
        else:
            self.detector = Detector(opened)
        self._sizes = set(self.detector.backend.sizes)
        self._opener.start()

    @property
    def warning(self) -> str:
        """What differs from the options, for people; empty if nothing does."""
        failed_build = self._build.failure if self._build else ""
        return (
            self._refused
            or self.detector.opened.warning
            or self._problem
            or (failed_build and self._without_engine(failed_build))
        )

    @property
    def model(self) -> str:
        """Name or path of what runs, or will with the next image."""
        return self._options.model

    def facts(self) -> dict[str, object]:
        """Key-value pairs for /diagnostics."""
        facts: dict[str, object] = {"backend_fallbacks": self._fallbacks}
        if self._changing:
            facts["model_change"] = self._changing
        if self._build:
            facts["engine_build"] = self._build.state
        if self._awaits_image:
            facts["engine_build"] = "begins with the first image, whose shape the engine fits"
        if self._is_chosen_by_time:
            timing = self._timing
            facts["backend_timing"] = timing.state if timing else self._timed
        return facts

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs on a GPU, or an engine for one is being built."""
        return self._runs_on_gpu() or self._build is not None or self._awaits_image

    def use_sizes(self, sizes: tuple[InputSize, ...]) -> None:
        """Have these input sizes open; returns at once, the detector gets them when they are ready.

        Sizes that are open already stay open.

        Args:
            sizes: the size to begin with, and those that it can be resized to.
        """
        if len(sizes) == 1 and not self._given_up:
            self._problem = ""  # those that could not be opened are not needed any more
        self._submit(partial(self._need, input_sizes=sizes))

    def fit(self, image_sizes: tuple[Size, ...]) -> None:
        """Have inputs open that fit these images of the cameras; like ``use_sizes``."""
        self._submit(partial(self._need, image_sizes=image_sizes))

    def change(self, options: RunOptions, accept: Callable[[ModelCard], None]) -> None:
        """Run other options as soon as they are open; returns at once.

        The network in use goes on meanwhile, and also if the others cannot be opened: then
        ``warning`` says why.

        Args:
            options: what the parameters say now; if several follow, only the last ones are opened.
            accept: is called with the card of the opened model before the detector gets it; raises
                ValueError if it cannot be used.
        """
        self._wanted = options
        self._submit(partial(self._change, options, accept))

    def succeeded(self) -> None:
        """Note that the backend has run."""
        self._failures = 0
        if self._may_choose:
            self._may_choose, self._is_active = False, True
            self._submit(self._choose)

    def failed(self, error: BackendError) -> None:
        """Note a failure of the backend, and replace it if need be."""
        backend = self.detector.backend
        if backend.name == ON_CPU["backend"] or backend is self._failed:
            return
        self._failures += 1
        if isinstance(error, BackendLost) or self._failures >= FAILURES:
            self._failed = backend
            where = f"{backend.name} on {backend.device}"
            self._given_up = f"the CPU took over from {where}: {error}"
            self._submit(self._fall_back)

    def rest(self) -> None:
        """End the timing, so that a node that is not active costs nothing; it begins again then."""
        self._is_active = False
        self._cancel_timing()

    def close(self) -> Thread:
        """Release the detector as soon as nothing is being opened and no thread detects.

        It waits for that at most ``END_LIMIT`` seconds, and not at all for a thread that detects.

        Returns:
            The thread that releases it, which may be waiting.
        """
        self._closed = True
        self.rest()
        self._to_open.put(lambda: None)
        is_detecting = self.in_use.locked()
        releasing = Thread(target=self._release, name="backend release", daemon=True)
        releasing.start()
        releasing.join(0.0 if is_detecting else END_LIMIT)
        return releasing

    def _release(self) -> None:
        self._opener.join()
        self._cancel_build()
        with self.in_use:
            self.detector.close()

    def _submit(self, work: Callable[[], None]) -> None:
        self._to_open.put(work)

    @property
    def _is_chosen_by_time(self) -> bool:
        """Whether timings choose what runs."""
        return self._options.are_for_timing and not self.needs_gpu

    def _runs_on_gpu(self) -> bool:
        return BACKENDS[self.detector.backend.name].runs_on == "GPU"

    # In the opener's thread

    def _open_queued(self) -> None:
        while not self._closed:
            work = self._to_open.get()
            try:
                if not self._closed:
                    work()
            except Exception as error:  # what comes later must still be opened
                self._report(f"{type(error).__name__}: {error}")

    def _need(self, **changes: tuple[InputSize, ...]) -> None:
        self._options = self._options.change(**changes)
        # The detector may still run another model, until the next image.
        sizes = self._options.resolved(find_model(self._options.model).card).sizes
        if self._awaits_image or not set(sizes) <= self._sizes:
            self._reopen()

    def _change(self, options: RunOptions, accept: Callable[[ModelCard], None]) -> None:
        if options is not self._wanted:
            return
        self._refused = ""
        options = options.change(image_sizes=self._options.image_sizes)
        if options == self._options and not self._given_up:
            return
        self._changing = f"opening {options.model}"
        self._cancel_timing()
        try:
            self._open_changed(options, accept)
        except CANNOT_OPEN as error:
            self._refused = f"staying with {self._options.model}: {error}"
            self._log.warning(self._refused)
        finally:
            self._changing = ""

    def _open_changed(self, options: RunOptions, accept: Callable[[ModelCard], None]) -> None:
        """Open other options beside what runs, and let the detector change to them."""
        found = open_if_built(options)
        opened = found if isinstance(found, Opened) else self._open_meanwhile(found, options)
        try:
            accept(opened.backend.card)
        except ValueError:
            opened.backend.close()
            raise
        self._cancel_build()
        self._awaits_image = False
        self._options = options
        self._failures, self._given_up, self._problem = 0, "", ""
        self._use(opened)
        if isinstance(found, MissingEngine):
            self._build_engine(found)
        self._may_choose = options.are_for_timing
        backend = opened.backend
        self._log.info(
            f"The next image runs on {backend.card.name}, {backend.precision}, on {backend.name} "
            f"({backend.device})"
        )

    def _fall_back(self) -> None:
        self._fallbacks += 1
        self._log.warning(self._given_up)
        self._cancel_build()
        self._options = self._options.change(**ON_CPU)
        self._cancel_timing()
        try:
            self._use(open_backend(self._options))
        except CANNOT_OPEN as error:
            self._report(f"{self._given_up}: {error}")
        else:
            self._problem = ""

    def _reopen(self) -> None:
        try:
            opened = open_if_built(self._options)
            if isinstance(opened, MissingEngine):
                self._cancel_build()
                if not self._runs_on_gpu():
                    self._use(self._open_meanwhile(opened, self._options))
                self._build_engine(opened)
            else:
                self._awaits_image = False
                self._use(opened)
        except CANNOT_OPEN as error:
            self._report(f"{self._given_up or 'staying with the input size'}: {error}")
        else:
            self._problem = ""
            self._may_choose = self._options.are_for_timing  # at this size

    def _report(self, problem: str) -> None:
        self._problem = problem
        self._log.warning(problem)

    def _use(self, opened: Opened) -> None:
        if opened.warning and opened.warning != self.detector.opened.warning:
            self._log.warning(opened.warning)
        if self._given_up:
            opened = replace(opened, choice=self._given_up, warning=self._given_up)
        self._sizes = set(opened.backend.sizes)
        self.detector.replace_backend(opened)

    def _open_meanwhile(self, missing: MissingEngine, options: RunOptions) -> Opened:
        opened = open_backend(options.change(**ON_CPU))
        return replace(opened, choice=f"until the engine is built: {missing.reason}")

    def _watch(self, process: BuildProcess, use: _Use, give_up: _GiveUp) -> Thread:
        """Have the end of a process followed by ``use`` in the opener's thread, or ``give_up``."""

        def wait() -> None:
            failure = process.wait()
            if failure:
                give_up(process, failure)
            elif not process.cancelled:
                self._submit(partial(use, process))

        waiter = Thread(target=wait, name="backend preparation", daemon=True)
        waiter.start()
        return waiter

    # What is fastest on this CPU

    def _choose(self) -> None:
        """Open what was timed to be the fastest, and have timed what was not."""
        if not self._is_chosen_by_time:
            return
        if self._use_fastest().is_exact or self._is_tried():
            return
        if self._is_active:
            self._start_timing()
        else:
            self._may_choose = True

    def _is_tried(self) -> bool:
        """Whether this size is being timed, or could not be in this activation."""
        timing, size = self._timing, self._options.sizes[:1]
        return timing is not None and timing.options.sizes[:1] == size

    def _use_fastest(self) -> Remembered:
        """Open what was timed to be the fastest unless it runs; return what is known."""
        from compact_yolo_ros.backends.remembered import recall  # the start does not need it

        model = find_model(self._options.model)
        timed = recall(model, self._options.resolved(model.card))
        before, self._timed = self._timed, str(timed)
        if timed.problem:
            self._log.warning(timed.problem)
        way, backend = timed.fastest, self.detector.backend
        if way is None:
            return timed
        if self._timed != before:
            self._log.info(f"Fastest on this CPU: {timed}")
        running = (backend.name, backend.precision, backend.threads)
        if running != (way.backend, way.precision, way.threads):
            self._use(open_backend(self._options))
        return timed

    def _start_timing(self) -> None:
        self._cancel_timing()  # that of another size
        self._may_choose = False
        self._log.info(
            "Timing the runtimes for this model in the background, once; backend_timing:=false "
            "leaves that out"
        )
        self._timing = BuildProcess(TIMING, self._options, self._log)
        self._watch(self._timing, self._use_timed, self._leave_untimed)
        if not self._is_active:  # since a moment ago
            self._cancel_timing()

    def _use_timed(self, timing: BuildProcess) -> None:
        if timing is self._timing and self._is_chosen_by_time:
            self._timing = None
            self._use_fastest()

    def _leave_untimed(self, timing: BuildProcess, reason: str) -> None:
        timing.state = f"failed: {reason}"
        self._log.warning(f"staying with {self.detector.backend.name}, not timed: {reason}")

    def _cancel_timing(self) -> None:
        timing, self._timing = self._timing, None
        if timing is not None:
            timing.cancel()
            self._may_choose = self._options.are_for_timing

    # The engine that is missing

    def _build_engine(self, missing: MissingEngine) -> None:
        """Build it now, or when an image has shown which shape it is to fit."""
        fits = any(isinstance(size, int) for size in self.detector.inputs)
        awaits_image = fits and not self._options.image_sizes
        if not awaits_image:
            self._start_build(missing)
        self._awaits_image = awaits_image

    def _start_build(self, missing: MissingEngine) -> None:
        self._log.info(f"{missing.reason}: building it in the background")
        self._build = BuildProcess(ENGINES, self._options.change(backend="tensorrt"), self._log)
        self._waiter = self._watch(self._build, self._use_engine, self._give_up)

    def _cancel_build(self) -> None:
        if self._build is not None:
            self._build.cancel()
            self._waiter.join()
            self._build = None

    def _use_engine(self, build: BuildProcess) -> None:
        if build is not self._build:
            return
        try:
            opened = open_if_built(build.options)
        except CANNOT_OPEN as error:
            self._give_up(build, str(error))
            return
        if isinstance(opened, MissingEngine):
            self._give_up(build, opened.reason)
            return
        self._use(replace(opened, choice="its engine was built while the CPU did the work"))
        build.state = "ready"
        self._log.info(f"The engine is ready: the next image runs on {opened.backend.device}")
        self._need()  # other sizes may be needed since

    def _give_up(self, build: BuildProcess, reason: str) -> None:
        build.state, build.failure = "failed", reason
        self._log.warning(self._without_engine(reason))

    def _without_engine(self, reason: str) -> str:
        kept = "with the input size" if self._runs_on_gpu() else "on the CPU"
        return f"staying {kept}, the engine could not be built: {reason}"

# SPDX-License-Identifier: Apache-2.0
"""Which backend the detector runs on: others are opened later, and take over between two images.

While a TensorRT engine is built the CPU does the work; when a backend fails, the CPU takes over. On
the CPU, what opens soonest answers first, and what was timed to be the fastest takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Lock, Thread

from compact_yolo_ros.backends import (
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
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.ros.detector.backend_opener import CANNOT_OPEN, BackendOpener
from compact_yolo_ros.ros.detector.backend_timing import BackendTiming
from compact_yolo_ros.ros.detector.engine_builder import EngineBuilder, runs_on_gpu
from compact_yolo_ros.ros.detector.leftovers import END_LIMIT
from compact_yolo_ros.ros.detector.logger import Logger

ON_CPU = {"backend": "onnxruntime", "precision": "auto", "dla_core": -1, "batch": 1}
"""Changes of the options that lead to the backend that is always there."""
SizesOf = Callable[[InputSize, ModelCard], tuple[InputSize, ...]]
"""Tells the input sizes that a model needs, from the one to begin with and its card."""
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
            options: what to run, and how; if they are ``pinned``, a file that is overwritten is not
                opened before ``change``.
            opened: what ``open_at_start`` returned for them.
            logger: is told what changes later.

        Raises:
            BackendError: the model cannot be run on the CPU meanwhile.
        """
        self._options = self._wanted = options
        self._log = logger
        self._failures = 0
        self._failed: Backend | None = None
        self._given_up = self._problem = self._changing = ""
        self._refused = (options, "")
        self._fallbacks = self._failed_reopenings = 0
        self.in_use = Lock()
        self.detector = detector = Detector(_what_runs(opened, options))
        self._newest = detector.backend
        self._sizes = set(self._newest.sizes)
        self._opener = opener = BackendOpener(self._report)
        self._engine = EngineBuilder(detector, opener, self._use_engine, logger)
        self._timing = BackendTiming(detector, opener, self._use, self._to_time, logger)
        if isinstance(opened, MissingEngine):
            self._engine.begin(opened, options)
        self._timing.allow(options)
        opener.start()

    @property
    def warning(self) -> str:
        """What differs from the options, for people; empty if nothing does."""
        return self.refused or self.detector.opened.warning or self._problem or self._engine.warning

    @property
    def refused(self) -> str:
        """Why what ``change`` asked for last was not opened; empty if it was, or may still be."""
        options, why = self._refused
        return why if options is self._wanted else ""

    @property
    def falls_short(self) -> bool:
        """Whether something could not be opened or built, or was given up, and may work by now.

        So it is if the model's file was overwritten.
        """
        if self.refused or self._problem or self._given_up or self._engine.warning:
            return True
        with suppress(ModelError):
            return self._options.pinned() != self._options
        return False

    @property
    def model(self) -> str:
        """Name or path of what runs, or will with the next image."""
        return self._options.model

    def facts(self) -> dict[str, object]:
        """Key-value pairs for /diagnostics."""
        facts: dict[str, object] = {"backend_fallbacks": self._fallbacks}
        if self._failed_reopenings:
            facts["reopenings_failed"] = self._failed_reopenings
        if self._changing:
            facts["model_change"] = self._changing
        if engine_build := self._engine.state:
            facts["engine_build"] = engine_build
        if self._to_time() is not None:
            facts["backend_timing"] = self._timing.state
        return facts

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs on a GPU, or an engine for one is being built."""
        return runs_on_gpu(self.detector.backend) or self._engine.is_needed

    def use_sizes(self, sizes_of: SizesOf) -> None:
        """Have other input sizes open; returns at once, the detector gets them when they are ready.

        Sizes that are open already stay open.

        Args:
            sizes_of: returns the size to begin with, and those that it can be resized to. It is
                asked after all changes before it, when it is known which model they have led to.
        """
        self._opener.submit(partial(self._need_sizes, sizes_of))

    def fit(self, image_sizes: tuple[Size, ...]) -> None:
        """Have inputs open that fit these images of the cameras; like ``use_sizes``."""
        self._opener.submit(partial(self._need, image_sizes=image_sizes))

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
        self._opener.submit(partial(self._change, options, accept))

    def succeeded(self) -> None:
        """Note that the backend has run."""
        self._failures = 0
        self._timing.succeeded()

    def failed(self, error: BackendError) -> None:
        """Note a failure of the backend, and replace it if need be."""
        backend = self.detector.backend
        if backend.name == ON_CPU["backend"] or backend is self._failed:
            return
        self._failures += 1
        if isinstance(error, BackendLost) or self._failures >= FAILURES:
            self._failed = backend
            where = f"{backend.name} on {backend.device}"
            reason = f"the CPU took over from {where}: {error}"
            self._opener.submit(partial(self._fall_back, backend, reason))

    def rest(self) -> None:
        """End the timing, so that a node that is not active costs nothing; it begins again then."""
        self._timing.rest()

    def close(self) -> Thread:
        """Release the detector as soon as nothing is being opened and no thread detects.

        It waits for that at most ``END_LIMIT`` seconds, and not at all for a thread that detects.

        Returns:
            The thread that releases it, which may be waiting.
        """
        self._opener.close()
        self.rest()
        is_detecting = self.in_use.locked()
        releasing = Thread(target=self._release, name="backend release", daemon=True)
        releasing.start()
        releasing.join(0.0 if is_detecting else END_LIMIT)
        return releasing

    def _release(self) -> None:
        self._opener.join()
        self._engine.cancel()
        with self.in_use:
            self.detector.close()

    def _to_time(self) -> RunOptions | None:
        """The options, where timings choose what runs."""
        return self._options if self._options.are_for_timing and not self.needs_gpu else None

    # In the opener's thread

    def _need_sizes(self, sizes_of: SizesOf) -> None:
        card = self._newest.card
        sizes = sizes_of((self._options.input_sizes or (card.own_input,))[0], card)
        self._need(input_sizes=sizes)

    def _need(self, **changes: tuple[InputSize, ...]) -> None:
        options = self._options.change(**changes)
        sizes = options.resolved(self._newest.card).sizes
        self._options = options  # not what cannot be: it would be in the way of all that comes
        if self._engine.awaits_image or not set(sizes) <= self._sizes:
            self._reopen()
        elif not self._given_up:
            self._problem = ""  # those that could not be opened are not needed any more

    def _change(self, wanted: RunOptions, accept: Callable[[ModelCard], None]) -> None:
        if wanted is not self._wanted:
            return
        options = wanted.change(image_sizes=self._options.image_sizes)
        try:
            options = options.pinned()
            if options == self._options and not (self._given_up or self._engine.warning):
                if self._problem:
                    self._reopen()
                return
            self._changing = f"opening {options.model}"
            self._timing.cancel()
            self._open_changed(options, accept)
        except CANNOT_OPEN as error:
            self._refused = wanted, f"staying with {self._options.model}: {error}"
            self._log.warning(self._refused[1])
        finally:
            self._changing = ""

    def _open_changed(self, options: RunOptions, accept: Callable[[ModelCard], None]) -> None:
        """Open other options beside what runs, and let the detector change to them."""
        file = options.find_model().path
        found = open_if_built(options)
        opened = _what_runs(found, options)
        try:
            accept(opened.backend.card)
        except ValueError:
            opened.backend.close()
            raise
        self._engine.cancel()
        self._engine.awaits_image = False
        self._options = options
        self._failures, self._given_up, self._problem = 0, "", ""
        self._use(opened)
        if isinstance(found, MissingEngine):
            self._engine.begin(found, options)
        self._timing.allow(options)
        backend = opened.backend
        self._log.info(
            f"The next image runs on {backend.card.name} ({file}), {backend.precision}, on "
            f"{backend.name} ({backend.device})"
        )

    def _fall_back(self, failed: Backend, reason: str) -> None:
        if failed is not self._newest:
            return  # it was replaced meanwhile
        self._fallbacks += 1
        self._given_up = reason
        self._log.warning(reason)
        self._engine.cancel()
        self._options = self._options.change(**ON_CPU)
        self._timing.cancel()
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
                self._engine.cancel()
                if not runs_on_gpu(self.detector.backend):
                    self._use(_what_runs(opened, self._options))
                self._engine.begin(opened, self._options)
            else:
                self._engine.awaits_image = False
                self._use(opened)
        except CANNOT_OPEN as error:
            self._report(f"{self._given_up or 'staying with the input size'}: {error}")
        else:
            self._problem = ""
            self._timing.allow(self._options)  # at this size

    def _report(self, problem: str) -> None:
        self._problem = problem
        self._failed_reopenings += 1
        self._log.warning(problem)

    def _use(self, opened: Opened) -> None:
        if opened.warning and opened.warning != self.detector.opened.warning:
            self._log.warning(opened.warning)
        if self._given_up:
            opened = replace(opened, choice=self._given_up, warning=self._given_up)
        self._sizes = set(opened.backend.sizes)
        self._newest = opened.backend
        self.detector.replace_backend(opened)

    def _use_engine(self, opened: Opened) -> None:
        self._use(replace(opened, choice="its engine was built while the CPU did the work"))
        self._log.info(f"The engine is ready: the next image runs on {opened.backend.device}")
        self._need()  # other sizes may be needed since


def _what_runs(found: Opened | MissingEngine, options: RunOptions) -> Opened:
    """What was found for the options; the CPU, until the engine that they need is built."""
    if isinstance(found, Opened):
        return found
    opened = open_backend(options.change(**ON_CPU))
    return replace(opened, choice=f"until the engine is built: {found.reason}")

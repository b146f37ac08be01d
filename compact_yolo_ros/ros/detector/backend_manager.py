# SPDX-License-Identifier: Apache-2.0
"""Keeping the detector answering: other backends are opened, and take over between two images.

While a TensorRT engine is built the CPU answers; when a backend fails, the CPU takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from compact_yolo_ros.backends import (
    Backend,
    BackendError,
    BackendLost,
    Opened,
    RunOptions,
    open_backend,
    open_if_built,
)
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.ros.detector.engine_upgrade import ON_CPU, EngineUpgrade, open_now

FAILURES = 3
"""Failures in a row after which a backend is given up, unless its device is gone."""

Log = Callable[[str], object]


class BackendKeeper:
    """Opens the detector's backend, and others later, off the threads that have work to do.

    Attributes:
        detector: what it keeps answering.
    """

    def __init__(self, options: RunOptions, info: Log, warn: Log) -> None:
        """Open the detector.

        Args:
            options: the model and how to run it.
            info: is told what happens, from any thread.
            warn: is told what goes wrong, from any thread.

        Raises:
            ModelError, BackendError, ValueError: see ``Detector.open``.
        """
        self._options = options
        self._info, self._warn = info, warn
        self._upgrade: EngineUpgrade | None = None
        self._failures = 0
        self._failed: Backend | None = None
        self._given_up = self._problem = ""
        self._fallbacks = 0
        self.detector, missing = open_now(options)
        self._opener = ThreadPoolExecutor(1, "backend opener")
        if missing:
            self._build(missing)

    @property
    def warning(self) -> str:
        """What is not as asked, for people; empty if all is."""
        built = self._upgrade.warning if self._upgrade else ""
        return self.detector.opened.warning or self._problem or built

    def facts(self) -> dict[str, object]:
        """Key-value pairs for /diagnostics."""
        built = {"engine_build": self._upgrade.state} if self._upgrade else {}
        return {"backend_fallbacks": self._fallbacks, **built}

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU works for it, or will."""
        return self.detector.backend.name == "tensorrt" or self._upgrade is not None

    def use_sizes(self, more_sizes: Iterable[Size]) -> None:
        """Have these input sizes open too; returns at once, the detector gets them when ready.

        Without any, that others could not be opened does not matter any more.
        """
        wanted = tuple(more_sizes)
        if not wanted and not self._given_up:
            self._problem = ""
        sizes = self._options.input_sizes
        if not set(wanted) <= set(sizes):
            self._options = self._options.change(input_sizes=(sizes[0], *wanted))
            self._open(self._reopen)

    def answered(self) -> None:
        """Take note that the backend works; called by the thread that detects."""
        self._failures = 0

    def failed(self, error: BackendError) -> None:
        """Take note of a failure, and give the backend up if need be; as ``answered``."""
        backend = self.detector.backend
        if backend.name == ON_CPU["backend"] or backend is self._failed:
            return
        self._failures += 1
        if isinstance(error, BackendLost) or self._failures >= FAILURES:
            self._failed = backend
            where = f"{backend.name} on {backend.device}"
            self._given_up = f"the CPU took over from {where}: {error}"
            self._open(self._fall_back)

    def close(self) -> None:
        """Wait for what is being opened, and release the detector."""
        self._opener.shutdown(cancel_futures=True)
        if self._upgrade is not None:
            self._upgrade.cancel()
        self.detector.close()

    def _open(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it was closed meanwhile
            self._opener.submit(self._trying, work)

    # In the opener's thread

    def _trying(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._problem = ""
        except (ModelError, BackendError, ValueError) as error:
            self._problem = f"{self._given_up or 'staying with the input size'}: {error}"
            self._warn(self._problem)

    def _fall_back(self) -> None:
        self._fallbacks += 1
        self._warn(self._given_up)
        if self._upgrade is not None:
            self._upgrade.cancel()
            self._upgrade = None
        self._options = self._options.change(**ON_CPU)
        self._use(open_backend(self._options))

    def _reopen(self) -> None:
        try:
            opened = open_if_built(self._options)
            if isinstance(opened, Opened):
                self._use(opened)
                return
            if self._upgrade is not None:
                self._upgrade.cancel()
            if self.detector.backend.name != "tensorrt":
                meanwhile = open_backend(self._options.change(**ON_CPU))
                self._use(meanwhile, f"until the engine is built: {opened.reason}")
        except (ModelError, BackendError, ValueError):
            # so that it is tried again for the next target
            first = self._options.input_sizes[0]
            self._options = self._options.change(input_sizes=(first,))
            raise
        self._build(opened.reason)

    def _use(self, opened: Opened, choice: str = "") -> None:
        self.detector.replace_backend(
            replace(
                opened,
                choice=choice or self._given_up or opened.choice,
                warning=self._given_up or opened.warning,
            )
        )

    def _build(self, missing: str) -> None:
        self._info(f"{missing}: building it in the background")
        self._upgrade = EngineUpgrade(self.detector, self._options, self._info)

# SPDX-License-Identifier: Apache-2.0
"""Engines for the tests on a GPU: which there are, and their builds, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.backends.arguments import to_arguments
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile, find_model, model_names

ROOT = Path(__file__).resolve().parents[2]
ZOO = os.environ.get("COMPACT_YOLO_GPU_ZOO", "")
"""Folder with detectors that are not trained, of ``training.export_zoo``; only timed."""


@dataclass(frozen=True)
class Case:
    """A model in a precision at an input size, for up to so many images a run."""

    model: str
    precision: str
    size: Size
    batch: int = 1

    def __str__(self) -> str:
        return f"{Path(self.model).stem}-{self.precision}-{self.size}-b{self.batch}"

    @property
    def file(self) -> ModelFile:
        return find_model(self.model)

    def options(self, engines: str) -> RunOptions:
        """How it is run with the engines of a folder."""
        return RunOptions(
            self.model,
            backend="tensorrt",
            precision=self.precision,
            input_sizes=(self.size,),
            batch=self.batch,
            engine_cache=engines,
        ).resolved(self.file.card)


def precisions(model: ModelFile) -> tuple[str, ...]:
    """What TensorRT makes of a file, the most used first."""
    held = model.card.precision
    return ("fp16", "fp32") if held == "fp32" else (held,)


def shipped_cases() -> list[Case]:
    """Every engine of every model of the package, at every size for which its card has AP."""
    return [
        Case(name, precision, size)
        for name in model_names()
        for card in [find_model(name).card]
        for precision, size in product(
            precisions(find_model(name)),
            [Size.square(int(side)) for side in card.ap] or [card.own_size],
        )
    ]


def timed_cases() -> list[Case]:
    """Every detector in every precision, at its own size; first what has published figures."""
    named = {find_model(name).card.detector for name in model_names()}
    zoo = [str(path) for path in sorted(Path(ZOO).glob("*.onnx"))] if ZOO else []
    others = [path for path in zoo if find_model(path).card.detector not in named]
    return [
        Case(name, precision, Size(*find_model(name).card.own_size))
        for name in [*others, *model_names()]
        for precision in precisions(find_model(name))
    ]


class Builds:
    """Builds engines beside the tests, in processes of their own, several at a time."""

    def __init__(
        self,
        engines: str,
        at_a_time: int,
        seconds_left: Callable[[], float],
        is_built: Callable[[Case], bool],
        log: Path | None = None,
    ) -> None:
        self.at_a_time = at_a_time
        self.seconds: dict[Case, float] = {}
        self.failed: dict[Case, str] = {}
        """The end of what a build said that failed."""
        self._engines = engines
        self._left = seconds_left
        self._is_built = is_built
        self._log = log
        self._pool = ThreadPoolExecutor(at_a_time)
        self._begun: dict[Case, Future[None]] = {}
        self._running: set[subprocess.Popen[str]] = set()
        self._may_begin = Lock()

    def begin(self, cases: Iterable[Case]) -> None:
        """Queue those that were not begun before; the first are built first."""
        for case in cases:
            if case not in self._begun:
                self._begun[case] = self._pool.submit(self._build, case)

    def finish(self, case: Case) -> None:
        """Wait until it is built, or the time is over; raises AssertionError if it failed."""
        self.begin([case])
        self._begun[case].result()
        assert case not in self.failed, self.failed[case]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave CPU and GPU to what is measured; what is being built waits, and nothing begins."""
        with self._may_begin:
            for process in self._running:
                process.send_signal(signal.SIGSTOP)
            try:
                sleep(0.05 if self._running else 0)  # what is on the GPU already
                yield
            finally:
                for process in self._running:
                    process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        self._pool.shutdown()

    def _build(self, case: Case) -> None:
        left = self._left()
        if left <= 0 or self._is_built(case):
            return
        words = to_arguments(case.options(self._engines), leave_out=("backend", "threads"))
        command = [sys.executable, "-m", "compact_yolo_ros.backends.engine_build", *words]
        with self._may_begin:
            began = monotonic()
            process = subprocess.Popen(
                command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            self._running.add(process)
        try:
            said, _ = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            self._note(case, f"{said}\nstopped: the time was over\n")
            return
        finally:
            with self._may_begin:
                self._running.discard(process)
        self._note(case, said)
        if process.returncode == 0:
            self.seconds[case] = monotonic() - began
        else:
            self.failed[case] = f"exit code {process.returncode}: {said[-2000:]}"

    def _note(self, case: Case, said: str) -> None:
        """Keep what TensorRT said, but not the lines of progress."""
        if self._log is not None:
            lines = [line for line in said.splitlines() if not line.startswith("building ")]
            with self._may_begin, self._log.open("a") as file:
                file.write("\n".join([f"=== {case}", *lines, ""]))


def in_order(cases: Iterable[Case], first: str) -> Iterator[Case]:
    """At its own size before others, a model before the others, FP16 before the rest."""

    def rank(case: Case) -> tuple[bool, bool, bool]:
        own = case.size == case.file.card.own_size
        return not own, not case.file.card.name.startswith(first), case.precision == "fp32"

    return iter(sorted(cases, key=rank))

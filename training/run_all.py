# SPDX-License-Identifier: Apache-2.0
"""Train several detectors by a plan, side by side and for a limited time.

    python -m training.run_all plan.yaml --out runs --minutes 15

A plan is a YAML file:

    parallel: 3                  # runs at the same time; they share a GPU, or the cores
    cache: disk                  # decoded images, which the runs then share
    common: {data: street/data.yaml, recipe: gpu_street, workers: 4}    # of all runs
    runs:
      street_micro: {detector: micro_yolo, start: micro_yolo, minutes: 40}
      street_nano: {detector: yolo_nano, set: [batch_size=64]}

A run takes the options of ``training.train`` by their names; ``minutes`` limits its own time. Those
of ``training/plans`` make the weights and tables of this package; ``--only`` takes some runs of a
plan, ``--set`` changes the recipes of all: to rehearse one with a few steps. ``--root`` is the
folder that relative paths of data, starts and backbones begin in. Runs
begin in the order of the plan. When the time is over, at SIGINT or SIGTERM, or when the terminal is
closed (unless ``nohup`` started it), all save and stop, and the same command goes on where they
were. Each run has its folder in ``--out``, with what it printed in ``train.log``.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import IO, Any

from rich.console import Console

from compact_yolo_ros.support.arguments import finite
from compact_yolo_ros.support.files import read_file, replacing
from compact_yolo_ros.support.terminal import open_console, print_table, say
from compact_yolo_ros.support.termination import handling
from training.data.dataset import Cache
from training.loop.run import ENDED
from training.settings.yaml_settings import from_plain, read_plain

TRAIN = (sys.executable, "-m", "training.train")
NAME = re.compile(r"\w[\w-]*")
LOG, FINISHED = "train.log", "finished"
OPTIONS = ("data", "detector", "recipe", "start", "backbone", "accelerator", "precision")
"""Options of ``training.train`` that a run may set, each a text."""
GRACE = 120.0
"""Seconds that a run has to save when it is told to stop."""
POLL = 0.2
TIME_IS_OVER = 3
"""Exit code when runs of the plan are left."""


@dataclass(frozen=True)
class RunPlan:
    """One training: the options of ``training.train``, and a limit of its time.

    Attributes:
        minutes: most minutes of this run, all starts together; 0: no limit.
        set: changes of the recipe, as ``optimizer.rate=1e-3``.
        threads: threads on the CPU; 0: as many as there are cores.
        workers: loader processes.
    """

    data: str
    detector: str = ""
    recipe: str = ""
    start: str = ""
    backbone: str = ""
    accelerator: str = ""
    precision: str = ""
    set: tuple[str, ...] = ()
    minutes: float = 0.0
    threads: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.minutes < math.inf:
            raise ValueError(f"minutes must be 0 or more, not {self.minutes}")


@dataclass(frozen=True)
class Shared:
    """What holds for all runs of a plan.

    Attributes:
        parallel: how many of them go on at the same time.
        cache: where decoded images are kept; ``disk`` is shared by the runs.
    """

    parallel: int = 1
    cache: Cache = "memory"

    def __post_init__(self) -> None:
        if self.parallel < 1:
            raise ValueError(f"parallel must be 1 or more, not {self.parallel}")


@dataclass(frozen=True)
class Plan:
    """Runs by name, and what holds for all of them."""

    runs: dict[str, RunPlan]
    shared: Shared = Shared()

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs must have at least one")
        for name in self.runs:
            if not NAME.fullmatch(name):
                raise ValueError(f"runs.{name}: give letters, digits, '_' and '-'")


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ValueError: it is no plan; the message says where.
        OSError: it cannot be read.
    """
    values = read_plain(path)
    runs, common = values.pop("runs", None), values.pop("common", {})
    if not isinstance(runs, dict) or not isinstance(common, dict):
        raise ValueError(f"{path}: 'runs' must be a mapping of names to runs, 'common' of options")
    try:
        named = {
            str(name): from_plain(RunPlan, _with(common, run), f"runs.{name}")
            for name, run in runs.items()
        }
        return Plan(named, from_plain(Shared, values))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _with(common: dict[str, Any], run: Any) -> Any:
    """Give a run the options that it does not have; changes of the recipe are joined."""
    if not isinstance(run, dict):
        return run
    both = [_listed(part.get("set")) for part in (common, run)]
    joined = {"set": [*both[0], *both[1]]} if both[0] and both[1] else {}
    return common | run | joined


def _listed(changes: Any) -> list[Any]:
    """A single text stands for a list of it; nothing of what is neither."""
    if isinstance(changes, str):
        return [changes]
    return changes if isinstance(changes, list) else []


def chosen(plan: Plan, only: Sequence[str], changes: Sequence[str], root: Path) -> Plan:
    """Return some runs of a plan, with changed recipes and paths below a folder.

    Args:
        plan: what was read.
        only: names of runs; empty: all.
        changes: of the recipe of every run, after its own.
        root: of relative paths of data, starts (files only) and backbones.

    Raises:
        ValueError: a name is unknown.
    """
    if unknown := [name for name in only if name not in plan.runs]:
        known = ", ".join(plan.runs)
        raise ValueError(f"--only {unknown[0]}: the plan has no such run, but {known}")

    def below(run: RunPlan) -> RunPlan:
        return replace(
            run,
            data=str(root / run.data),
            # A start without a suffix is the name of a model.
            start=str(root / run.start) if Path(run.start).suffix else run.start,
            backbone=str(root / run.backbone) if run.backbone else "",
            set=(*run.set, *changes),
        )

    runs = {name: below(run) for name, run in plan.runs.items() if not only or name in only}
    return replace(plan, runs=runs)


@dataclass
class Run:
    """A training of the plan, in a process of its own.

    Attributes:
        name: of its folder.
        plan: its options.
        folder: where it writes.
        used: seconds of earlier starts.
        state: ``waiting``, ``training``, ``finished``, ``stopped``, ``out of time`` or ``failed``.
    """

    name: str
    plan: RunPlan
    folder: Path
    used: float = 0.0
    state: str = "waiting"
    _process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None
    _began: float = field(default=0.0)

    def __post_init__(self) -> None:
        with suppress(FileNotFoundError, ValueError):
            self.used = float(read_file(self._clock, 100))
        if self._has_finished():
            self.state = "finished"
        elif self._is_over():
            self.state = "out of time"

    @property
    def _clock(self) -> Path:
        return self.folder / "seconds"

    def begin(self, command: Sequence[str], cache: str) -> None:
        """Start the training, or continue it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / LOG).open("ab")
        options = [*_options(self.plan), "--cache", cache, "--out", str(self.folder)]
        self._process = subprocess.Popen(
            [*command, *options], stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._began = time.monotonic()
        self.state = "training"

    def check(self) -> None:
        """See whether it has ended by itself, or has to."""
        assert self._process is not None
        if self._process.poll() is not None:
            self._end(self._outcome())
        elif self._is_over():
            self.ask_to_stop()
            self.stop("out of time")

    def ask_to_stop(self) -> None:
        """Let it save; returns at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self, state: str = "stopped") -> None:
        """Wait until it has saved as it was asked to, and end it."""
        assert self._process is not None
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        outcome = self._outcome()
        self._end(state if outcome == "stopped" else outcome)

    def _outcome(self) -> str:
        """How the process has ended: it may have been stopped by somebody else."""
        assert self._process is not None
        if self._process.returncode == -signal.SIGTERM:
            return "stopped"  # before it could begin
        if self._process.returncode:
            return "failed"
        return "finished" if self.last_line().startswith(ENDED) else "stopped"

    def _end(self, state: str) -> None:
        assert self._log is not None
        self._log.close()
        self.used += time.monotonic() - self._began
        self.state = state
        with replacing(self._clock) as temporary:
            temporary.write_text(f"{self.used:.1f}\n")
        if state == "finished":
            with replacing(self.folder / FINISHED) as temporary:
                temporary.write_text(self._options_text)

    def _has_finished(self) -> bool:
        """Whether it has ended with the options of the plan as it is now."""
        try:
            return read_file(self.folder / FINISHED, 100_000).decode() == self._options_text
        except (FileNotFoundError, ValueError):
            return False

    @property
    def _options_text(self) -> str:
        return "\n".join(_options(self.plan)) + "\n"

    def _is_over(self) -> bool:
        running = time.monotonic() - self._began if self.state == "training" else 0.0
        return 0 < 60 * self.plan.minutes <= self.used + running

    def last_line(self) -> str:
        """The last line that it has printed; empty: none."""
        try:
            content = (self.folder / LOG).read_bytes()[-4000:]
        except FileNotFoundError:
            return ""
        lines = content.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _options(plan: RunPlan) -> list[str]:
    given = [(name, getattr(plan, name)) for name in OPTIONS]
    options = [part for name, value in given if value for part in (f"--{name}", value)]
    options += [part for change in plan.set for part in ("--set", change)]
    if plan.threads:
        options += ["--threads", str(plan.threads)]
    return [*options, "--workers", str(plan.workers)]


def run_all(
    plan: Plan,
    out: Path,
    minutes: float,
    console: Console,
    stop: Event,
    command: Sequence[str] = TRAIN,
) -> Mapping[str, Run]:
    """Work on a plan until it is done, the time is over, or ``stop`` is set.

    Args:
        plan: what to train.
        out: gets a folder for each run.
        minutes: limit of all together; 0: none. Saving comes on top.
        console: is told of every beginning and end.
        stop: asks for the end.
        command: that trains; for tests.

    Returns:
        The runs by name.
    """
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    runs = {name: Run(name, given, out / name) for name, given in plan.runs.items()}
    waiting = [run for run in runs.values() if run.state == "waiting"]
    active: list[Run] = []
    try:
        while (waiting or active) and not stop.is_set() and time.monotonic() < end:
            while waiting and len(active) < plan.shared.parallel:
                run = waiting.pop(0)
                run.begin(command, plan.shared.cache)
                active.append(run)
                say(console, f"{run.name} begins: {run.folder / LOG}")
            stop.wait(POLL)
            for run in active:
                run.check()
                if run.state != "training":
                    say(console, f"{run.name}: {run.state} after {run.used / 60:.1f} minutes")
            active = [run for run in active if run.state == "training"]
    finally:
        _stop(active)
    return runs


def _stop(active: Sequence[Run]) -> None:
    """Tell all at once, so that they save side by side."""
    for run in active:
        run.ask_to_stop()
    for run in active:
        run.stop()


@contextmanager
def _asked() -> Iterator[Event]:
    """An event that is set when a signal asks for the end, in this block.

    The runs have sessions of their own: the end of the terminal's reaches only this process.
    """
    stop = Event()
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
        numbers.remove(signal.SIGHUP)
    with ExitStack() as stack:
        for number in numbers:
            stack.enter_context(handling(number, lambda *_: stop.set()))
        yield stop


def main(arguments: list[str] | None = None) -> int:
    """Command line; return the process's exit code: 0, 1 if a run failed, 3 if runs are left."""
    parser = argparse.ArgumentParser(
        prog="training.run_all", description="Train several detectors by a plan."
    )
    parser.add_argument("plan", type=Path, help="YAML file, see the head of training/run_all.py")
    parser.add_argument("--out", type=Path, required=True, help="gets a folder for each run")
    parser.add_argument("--minutes", type=finite, default=0.0, help="stop after this time")
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="RUN", help="these runs only"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change all recipes"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder that relative paths of the plan begin in"
    )
    options = parser.parse_args(arguments)
    if options.minutes < 0:
        parser.error("--minutes must be 0 or more")
    try:
        plan = chosen(read_plan(options.plan), options.only, options.set, options.root)
        with _asked() as stop:
            runs = run_all(plan, options.out, options.minutes, open_console(stderr=True), stop)
    except (ValueError, OSError) as error:
        print(f"training.run_all: {error}", file=sys.stderr)
        return 1
    rows = [
        [name, run.state, f"{run.used / 60:.1f}", run.last_line()] for name, run in runs.items()
    ]
    print_table(open_console(), ["run", "state", "minutes", "last line"], rows)
    states = {run.state for run in runs.values()}
    if "failed" in states:
        return 1
    return TIME_IS_OVER if states & {"waiting", "stopped"} else 0


if __name__ == "__main__":
    sys.exit(main())

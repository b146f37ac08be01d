# SPDX-License-Identifier: Apache-2.0
"""The command line that all studies share."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import get_args

import torch

from compact_yolo_ros.support.arguments import positive, whole_number
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import require_writable
from compact_yolo_ros.support.terminal import open_console, say
from compact_yolo_ros.support.termination import terminable
from training.data.dataset import Cache
from training.loop.memory import MemoryShortageError, memory_shortage_told
from training.loop.trainer import DivergedError
from training.studies.member import Result
from training.studies.report import PAGE, Report
from training.studies.study import STOPPED, Effort, StoppedError, Study, changed

QUICK = Effort(
    "cpu_small",
    (
        "phases=[{epochs: 6, sizes: 128}]",
        "batch_size=8",
        "schedule.warmup_steps=20",
        "evaluation.size=160",
        "evaluation.every=6",
        "precision=32-true",
    ),
    images=300,
    held_out=150,
)
"""Minutes on two cores: small inputs, few images, few epochs. What it shows are tendencies."""


@dataclass(frozen=True)
class Command:
    """One study as a command.

    Attributes:
        name: of its module.
        summary: one line about it.
        report: makes the report of the finished results.
        work: trains what the study needs; it gets the study, and the options of the command.
        paper: how long a training is in the publication, or as near to it as is known.
        quick: how long it is with ``--quick``.
        more: adds options of its own.
    """

    name: str
    summary: str
    report: Callable[[Sequence[Result], argparse.Namespace], Report]
    work: Callable[[Study, argparse.Namespace], None]
    paper: Effort
    quick: Effort = QUICK
    more: Callable[[argparse.ArgumentParser], None] = lambda _: None

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command; return the exit code: 0, 1 for an error, 3 if trainings are left."""
        options = self._parse(arguments)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        if options.threads:
            torch.set_num_threads(options.threads)
        limit = Timer(60 * (options.minutes or 0), os.kill, (os.getpid(), signal.SIGTERM))
        limit.daemon = True
        try:
            with terminable(), memory_shortage_told():
                if options.minutes:
                    limit.start()
                study = self._study(options)
                study.check_folder()
                if not options.plan:
                    _make(options.out)
                self.work(study, options)
        except (StoppedError, KeyboardInterrupt):
            self._end(options, "Stopped; the same command continues.")
            return STOPPED
        except (ValueError, OSError, DivergedError, MemoryShortageError) as error:
            print(f"training.studies.{self.name}: {error}", file=sys.stderr)
            return 1
        finally:
            limit.cancel()
        if not options.plan:
            self._end(options, f"The study is finished: {options.out / PAGE}")
        return 0

    def _end(self, options: argparse.Namespace, sentence: str) -> None:
        """Say how it ended; one of several processes of a study leaves that to the first."""
        if not getattr(options, "part", ""):
            say(open_console(), sentence)

    def _study(self, options: argparse.Namespace) -> Study:
        effort = changed(self.quick if options.quick else self.paper, options.set, options.images)
        return Study(
            self.name,
            options.data,
            options.out,
            effort,
            lambda results: self.report(results, options),
            open_console(),
            tuple(dict.fromkeys(options.seeds or [0])),
            options.accelerator,
            options.cache,
            options.workers,
        )

    def _parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"training.studies.{self.name}", description=self.summary
        )
        add = parser.add_argument
        add("--data", type=Path, required=True, help="description of the data set")
        add("--out", type=Path, required=True, help="folder of the study")
        add("--quick", action="store_true", help="few images, small inputs, few epochs")
        add("--plan", action="store_true", help="print the plan and its cost, and train nothing")
        add("--seeds", type=whole_number(0), nargs="+", action="extend", help="of trainings [0]")
        add("--images", type=whole_number(0), help="training images, drawn from all; 0: all")
        add(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change the recipe of all trainings: phases.0.epochs=5, ...",
        )
        add("--minutes", type=positive, help="save and stop after this time")
        add("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
        add("--cache", default="memory", choices=get_args(Cache), help="of decoded images")
        add(
            "--threads",
            type=whole_number(0),
            default=0,
            help="on the CPU; 0: as many as there are cores",
        )
        add("--workers", type=whole_number(0), default=1, help="loader processes")
        self.more(parser)
        return parser.parse_args(arguments)


def _make(folder: Path) -> None:
    """Make the folder of a study; raises ValueError if nothing can be written there."""
    try:
        require_writable(folder)
    except OSError as error:
        raise ValueError(f"--out {folder}: {reason(error)}") from None

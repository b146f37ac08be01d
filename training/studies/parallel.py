# SPDX-License-Identifier: Apache-2.0
"""Several trainings of a study at a time, each in a process of its own.

The study starts its own command once for each part of its trainings, and reports what all of them
have finished: the parts write no report. The processes share the cores, or a GPU. A signal is
passed on to them.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from compact_yolo_ros.support.arguments import whole_number
from compact_yolo_ros.support.terminal import say
from training.studies.member import Member
from training.studies.study import RESULT, STOPPED, StoppedError, Study

LOOK_SECONDS = 1.0
"""Between two looks at what the parts have finished."""


def add_parallel(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--parallel``."""
    parser.add_argument(
        "--parallel", type=whole_number(1), default=1, help="trainings at a time [1]"
    )
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)


def train_all(study: Study, members: Sequence[Member], options: argparse.Namespace) -> None:
    """Print the plan; then train all members, ``--parallel`` at a time.

    Raises:
        StoppedError: a signal came; what is finished is kept.
        ValueError: a part of the trainings failed.
    """
    if options.part:
        number, parts = map(int, options.part.split("/"))
        study.reports = False
        return _train(study, members[number::parts])
    say(study.console, str(study.cost(study.trainings(members))))
    if options.plan:
        return
    study.gather(members)
    if options.parallel > 1:
        _run_parts(study, members, options.parallel)
    _train(study, members)


def _train(study: Study, members: Sequence[Member]) -> None:
    for member in members:
        for seed in study.seeds:
            study.train(member, seed)


def _run_parts(study: Study, members: Sequence[Member], parts: int) -> None:
    command = [sys.executable, "-m", f"training.studies.{study.name}", *sys.argv[1:]]
    running = [subprocess.Popen([*command, "--part", f"{n}/{parts}"]) for n in range(parts)]
    try:
        _report_until_all_end(study, members, running)
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        codes = {process.wait() for process in running}
        study.gather(members)
    if STOPPED in codes:
        raise StoppedError
    if any(codes):
        raise ValueError("a part of the trainings has failed: see what it has printed")


def _report_until_all_end(
    study: Study, members: Sequence[Member], running: Sequence[subprocess.Popen[bytes]]
) -> None:
    known = _versions(study)
    while any(process.poll() is None for process in running):
        time.sleep(LOOK_SECONDS)
        if (found := _versions(study)) != known:
            known = found
            study.gather(members)


def _versions(study: Study) -> set[tuple[str, int]]:
    """What changes when a training ends."""
    return {(path.parent.name, path.stat().st_mtime_ns) for path in study.out.glob(f"*/{RESULT}")}

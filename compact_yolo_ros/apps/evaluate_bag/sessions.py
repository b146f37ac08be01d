# SPDX-License-Identifier: Apache-2.0
"""The sessions of a run: how long each was, and what the machine drew while it worked."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from compact_yolo_ros.apps.evaluate_bag.results import MeasuredPower
from compact_yolo_ros.apps.evaluate_bag.results_folder import SESSIONS, writing
from compact_yolo_ros.machine.power import PowerMonitor, PowerSummary, find_power_source
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import read_file, replacing
from compact_yolo_ros.support.json_files import parse_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain


@dataclass(frozen=True)
class Session:
    """One uninterrupted stretch of a run.

    Seconds and frames are counted from the first frame that is done: opening a model takes long.

    Attributes:
        seconds: from the first frame to the last one.
        frames: number of frames behind the first one.
        power: during the session.
        environment: facts about the machine that it was on, for people; those of earlier versions
            have none.
    """

    seconds: float
    frames: int
    power: MeasuredPower
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunTotals:
    """The sessions of a run together.

    Attributes:
        seconds: sum.
        frames: sum.
        sessions: number of them.
        power: of the last session, with the mean watts of all.
        environment: of the last session.
    """

    seconds: float
    frames: int
    sessions: int
    power: MeasuredPower
    environment: dict[str, str]


class PowerLog:
    """Looks at the power every few seconds, where it can be read.

    Attributes:
        summary: of the last seconds before the end.
    """

    summary: PowerSummary

    def __init__(self, *, on_gpu: bool = False) -> None:
        """Start reading; ``on_gpu``: see ``find_power_source``."""
        self._monitor = PowerMonitor(lambda: find_power_source(on_gpu=on_gpu))
        self._next = time.monotonic() + WINDOW
        self._watts: list[float] = []
        self._throttling: dict[str, None] = {}

    def look(self) -> None:
        """Note the last seconds, once in each period; call it often."""
        if time.monotonic() >= self._next:
            self._next += WINDOW
            self._note()

    def close(self) -> MeasuredPower:
        """Stop reading, and return what was read."""
        self._note()
        self.summary = summary = self._monitor.summary()
        self._monitor.close()
        return MeasuredPower(
            summary.source,
            summary.mode,
            fmean(self._watts) if self._watts else None,
            ", ".join(self._throttling),
            summary.problem,
        )

    def _note(self) -> None:
        summary = self._monitor.summary()
        if summary.watts is not None:
            self._watts.append(summary.watts)
        if summary.throttling:
            self._throttling[summary.throttling] = None


def write_session(folder: Path, session: Session) -> None:
    """Make ``session`` the only one of the folder; BagError if it cannot be written."""
    path = folder / SESSIONS
    with writing(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(to_plain(session)) + "\n")


def append_session(folder: Path, session: Session) -> None:
    """Add a session to those of the folder; BagError if it cannot be written."""
    path = folder / SESSIONS
    with writing(path), path.open("a") as file:
        # What a crash left of a line ends here.
        file.write(f"\n{json.dumps(to_plain(session))}\n")


def total_of_sessions(folder: Path, last: Session) -> RunTotals:
    """Add up the sessions of a folder; ``last`` is used if none of them ran a frame.

    Raises:
        BagError: the file of the sessions is damaged.
    """
    sessions = _sessions(folder / SESSIONS)
    if not sessions:  # nothing was run here, so the power was not that of the network
        sessions = [replace(last, power=replace(last.power, watts=None))]
    known = [(s.power.watts, s.seconds) for s in sessions if s.power.watts]
    watts = sum(w * s for w, s in known) / sum(s for _, s in known) if known else None
    return RunTotals(
        sum(session.seconds for session in sessions),
        sum(session.frames for session in sessions),
        len(sessions),
        replace(sessions[-1].power, watts=watts),
        sessions[-1].environment or last.environment,
    )


def _sessions(path: Path) -> list[Session]:
    """The sessions in a file; half a line, left by a crash, is none."""
    try:
        data = read_file(path, LARGE.size) if path.exists() else b""
        lines = (line for line in data.splitlines(keepends=True) if line.endswith(b"}\n"))
        return [from_plain(Session, parse_json(line)) for line in lines]
    except (OSError, ValueError) as error:
        raise BagError(
            f"{path} cannot be used ({reason(error)}): give --restart to begin again"
        ) from None

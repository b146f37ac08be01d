# SPDX-License-Identifier: Apache-2.0
"""What the runtimes on the CPU have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compact_yolo_ros.backends.backend import BackendError, Candidates
from compact_yolo_ros.backends.processor import usable_cores
from compact_yolo_ros.model.store import ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

MAX_DEFAULT_THREADS = 4
"""Small networks stop gaining beyond a few threads, and a robot has other work for its cores."""


def default_threads(root: Path = Path("/")) -> int:
    """Threads used when the user does not say: one for each core (``usable_cores``), at most four.

    Args:
        root: folder that holds /proc and /sys.
    """
    return min(MAX_DEFAULT_THREADS, usable_cores(root))


def require_file_precision(model: ModelFile, options: RunOptions) -> None:
    """Check that a file holds the precision of the options, for runtimes that take it as it is.

    Precision lives in the graph, and no runtime here changes it without saying so.

    Raises:
        BackendError: it holds another one.
    """
    held = model.card.precision
    if options.precision != held:
        raise BackendError(
            f"{model.path.name} holds {held} weights, not {options.precision}",
            "set precision to auto, or give a file of that precision",
        )


class CpuBackend:
    """The attributes of a ``Backend`` that follow from the model and the options.

    A run takes all of its threads, so there is one under way at a time: ``start`` runs it.
    """

    device = "CPU"
    in_flight = 1

    def __init__(self, model: ModelFile, options: RunOptions) -> None:
        """Take the options, which the choice has found possible."""
        self.card = model.card
        self.precision = options.precision
        self.threads = options.threads or default_threads()
        self.device_times: dict[str, float] = {}
        self.details: dict[str, str] = {}

    def run(self, images: int = 1) -> Candidates:
        """See ``Backend``."""
        raise NotImplementedError

    def start(self, images: int = 1) -> None:
        """See ``Backend``."""
        self._found = self.run(images)

    def finish(self) -> Candidates:
        """See ``Backend``."""
        return self._found

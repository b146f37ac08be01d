# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader never meets half of one, and looking whether one can."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it there in the end.

    The ending stays, because some writers choose the format by it. If the block fails, ``path``
    is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and raise OSError if no file can be written into it."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass

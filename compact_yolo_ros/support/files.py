# SPDX-License-Identifier: Apache-2.0
"""Write files that no reader sees half-written, and check that a folder is writable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` to write to, and rename it to ``path`` at the end.

    It has the same suffix, because some writers choose the format by it. If the block fails,
    ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path, mode: int = 0o777) -> None:
    """Make a folder.

    Raises:
        OSError: it cannot be made, or no file can be written into it.
    """
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass

# SPDX-License-Identifier: Apache-2.0
"""Read files of bounded size, and write files that no reader sees half-written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is too large, or is a pipe or device, which may never end.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if facts.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit / 1e6:g} MB", str(path))
        return _complete(file.read(), path)


LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small text begins that Git leaves where it has not fetched a large file."""


def check_present(path: Path) -> None:
    """Raise OSError if a file is a pipe, a device, or only stands for one that is not fetched."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        _complete(file.read(len(LFS_POINTER)), path)


def _complete(content: bytes, path: Path) -> bytes:
    if content.startswith(LFS_POINTER):
        why = "Git has not fetched it, only a pointer is there: run `git lfs pull`"
        raise OSError(errno.ENODATA, why, str(path))
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for somebody to write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


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

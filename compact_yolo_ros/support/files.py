# SPDX-License-Identifier: Apache-2.0
"""Read files of bounded size, and write files that no reader sees half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO

from compact_yolo_ros.support.error_text import is_utf8, shortened

_PART = 2**18
"""Bytes of a file that are read at once where not all of it is needed."""
_NAME = 180
"""Bytes of a name that are kept where more is added to it."""
UNFINISHED = ".unfinished_"
"""How the folders of files that are being written begin."""


@contextmanager
def open_regular(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without waiting for somebody to write into a pipe.

    Args:
        path: of the file.
        flags: more of ``os.open``.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    more = flags | os.O_NONBLOCK
    with open(path, "rb", opener=lambda name, usual: os.open(name, usual | more)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is too large, or is a pipe or device, which may never end.
    """
    with _open_bounded(path, limit) as file:
        return _complete(file.read(), path)


@contextmanager
def _open_bounded(path: Path, limit: int) -> Iterator[BinaryIO]:
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit / 1e6:g} MB", str(path))
        yield file


def sha256_of(path: Path, limit: int) -> str:
    """The SHA-256 of a file that ``read_file`` reads, in hexadecimal; read once while it stays."""
    return _digest(path, limit, version_of(path))


def version_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does; raises OSError if there is none."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=16)
def _digest(path: Path, limit: int, version: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with _open_bounded(path, limit) as file:
        part = _complete(file.read(_PART), path)
        while part:
            digest.update(part)
            part = file.read(_PART)
    return digest.hexdigest()


LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small text begins that Git leaves where it has not fetched a large file."""


def check_present(path: Path) -> None:
    """Raise OSError if a file is a pipe, a device, or only stands for one that is not fetched."""
    with open_regular(path) as file:
        _complete(file.read(len(LFS_POINTER)), path)


def _complete(content: bytes, path: Path) -> bytes:
    if content.startswith(LFS_POINTER):
        why = "Git has not fetched it, only a pointer is there: run `git lfs pull`"
        raise OSError(errno.ENODATA, why, str(path))
    return content


def in_home(text: str) -> Path:
    """The path that a text stands for, which may begin with ``~`` or ``~user``.

    Raises:
        ValueError: that home folder is not known.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(
            f"the home folder of '{shortened(text)}' is not known: give the whole path"
        ) from None


def cache_folder(name: str) -> Path:
    """The user's folder of what can be made again; its ``~`` is not expanded."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root) / "compact_yolo_ros" / name


def short_name(name: str) -> str:
    """The name of a file, cut so that another one can begin with it: 255 bytes is the most."""
    data = os.fsencode(name)
    return name if len(data) <= _NAME else data[:_NAME].decode(errors="ignore")


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in ``parent`` that nobody else can write into or foresee, and remove it."""
    from tempfile import TemporaryDirectory  # a start needs neither it nor shutil

    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=UNFINISHED, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` to write to, and rename it to ``path`` at the end.

    It has the same name, because some writers choose the format by it. If the block fails, ``path``
    stays as it was. Nobody can put a link in its place, even where others may write.
    """
    with private_folder(path.parent) as folder:
        yield folder / path.name
        os.replace(folder / path.name, path)


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Yield a text that leads to the same file and is UTF-8: any other one makes OpenCV crash.

    A file that is not there yet must have a name in UTF-8; its folder need not.

    Raises:
        OSError: the folder, or else the file, cannot be opened.
    """
    text = str(path)
    if is_utf8(text):
        yield text
        return
    place, rest = (path.parent, f"/{path.name}") if is_utf8(path.name) else (path, "")
    opened = os.open(place, os.O_PATH)
    try:
        yield f"/proc/self/fd/{opened}{rest}"
    finally:
        os.close(opened)


def write_text(path: Path, text: str) -> None:
    """Write a text in which names of files may stand: they need not be UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8", "replace")


def remove_unfinished(folder: Path, seconds: float = 0.0) -> None:
    """Remove what processes that were killed while they wrote have left in a folder.

    Args:
        folder: where they wrote.
        seconds: what was begun within this time stays: it may still be written.
    """
    import shutil

    for left in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):  # another process tidies up at the same time
            if time.time() - left.stat().st_mtime >= seconds:
                shutil.rmtree(left)


def require_writable(folder: Path, mode: int = 0o777) -> None:
    """Make a folder.

    Raises:
        OSError: it cannot be made, or no file can be written into it.
    """
    with trial_file(folder, mode):
        pass


@contextmanager
def trial_file(folder: Path, mode: int) -> Iterator[IO[bytes]]:
    """Make a folder, and a file in it that is gone afterwards.

    Raises:
        OSError: one of them cannot be made.
    """
    from tempfile import TemporaryFile  # a start needs it not

    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        yield file

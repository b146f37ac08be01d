# SPDX-License-Identifier: Apache-2.0
"""Files that took long to make and that run as code: used only where this user has made them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from compact_yolo_ros.support.files import open_regular, remove_unfinished, replacing, trial_file


class TrustedCache:
    """A folder of such files. Those used longest ago go first when it grows beyond its limit.

    A file is used only if it belongs to this user (or root), nobody else may write it, its key is
    the wanted one and its content is undamaged.
    """

    def __init__(self, folder: Path, kind: str, limit: int) -> None:
        """Use ``folder``.

        Args:
            folder: is made when the first file is stored.
            kind: how the names of its files end, without a dot.
            limit: bytes of files that are kept.
        """
        self.folder = folder
        self._kind = kind
        self._limit = limit

    def load(self, name: str, key: str) -> bytes | None:
        """What was stored as ``name`` for ``key``; None if nothing was that can be trusted."""
        path = self.path(name)
        data = read_own(path)
        if data is None:
            return None
        parts = data.split(b"\n", 3)
        content = parts[-1]
        header = memoryview(data)[: len(data) - len(content)]
        if len(parts) != 4 or header != self._header(key, content):
            return None
        with suppress(OSError):  # it may be read-only, or another process's to remove
            os.utime(path, follow_symlinks=False)  # used now: it goes last
        return content

    def store(self, name: str, key: str, content: bytes) -> Path:
        """Keep ``content`` for ``key``, a line of text; raises OSError as ``write_own``."""
        path = self.path(name)
        write_own(path, self._header(key, content) + content)
        self._shrink(path)
        return path

    def path(self, name: str) -> Path:
        """Where ``name`` is stored."""
        return self.folder / f"{name}.{self._kind}"

    def _header(self, key: str, content: bytes) -> bytes:
        """First three lines of a file: format, key, SHA-256 of the content."""
        digest = hashlib.sha256(content).hexdigest()
        return f"compact_yolo_ros {self._kind} 1\n{key}\n{digest}\n".encode()

    def _shrink(self, newest: Path) -> None:
        """Remove the files used longest ago until the rest fits; ``newest`` stays."""
        remove_unfinished(self.folder, seconds=3600)
        entries = []
        for path in self.folder.glob(f"*.{self._kind}"):
            with suppress(OSError):  # another process tidies up at the same time
                entries.append((path.lstat(), path))
        total = sum(entry.st_size for entry, _ in entries)
        for entry, path in sorted(entries, key=lambda pair: pair[0].st_mtime_ns):
            if total > self._limit and path != newest:
                with suppress(OSError):  # as above, or it is another user's to remove
                    path.unlink()
                    total -= entry.st_size


def read_own(path: Path) -> bytes | None:
    """A file's content, if nobody but this user and root can have written it."""
    try:
        with open_regular(path, os.O_NOFOLLOW) as file:
            return file.read() if _is_own(file.fileno()) else None
    except OSError:
        return None


def write_own(path: Path, data: bytes) -> None:
    """Write a file that only this user can read.

    Raises:
        OSError: it cannot be written, or ``read_own`` would not read it.
    """
    require_own(path.parent)
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(data)


def require_own(folder: Path) -> None:
    """Make a folder for files of this user.

    Raises:
        OSError: none can be written into it, or ``read_own`` would read none of them, as on a
            FAT or network drive, whose files have the owner and the mode that the mount gives.
    """
    with trial_file(folder, mode=0o700) as file:
        if not _is_own(file.fileno()):
            why = "its files belong to another user, or others may write them"
            raise OSError(errno.EPERM, why, str(folder))


def _is_own(handle: int) -> bool:
    """Whether nobody but this user and root can have written an open file."""
    facts = os.fstat(handle)
    foreign = facts.st_uid not in (os.getuid(), 0)
    return not foreign and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

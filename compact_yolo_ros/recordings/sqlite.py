# SPDX-License-Identifier: Apache-2.0
"""Reading the SQLite files of rosbag2, whole or broken off."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np

from compact_yolo_ros.recordings.compression import MOST_BYTES
from compact_yolo_ros.recordings.storage import (
    FOREVER,
    Loss,
    Message,
    StorageError,
    StorageInfo,
    Topic,
    type_name,
)


class SqliteFile:
    """A .db3 file; see ``Storage``. Its memory is a message, and 24 bytes for each message."""

    def __init__(self, path: Path) -> None:
        """Scan the file.

        Raises:
            StorageError: it is not of rosbag2, or too damaged to find its topics.
            OSError: it cannot be read.
        """
        self._path = path
        self.lost: list[str | Loss] = []
        try:
            with closing(self._connect()) as database:
                rows = database.execute(
                    "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
                ).fetchall()
                definitions = _definitions(database)
                self._scan(database)
        except sqlite3.Error as error:
            raise StorageError(
                f"{path.name} is not a recording, or badly damaged: {error}"
            ) from None
        self._topics = {n: (str(name), type_name(str(t), str(form))) for n, name, t, form in rows}
        self.topics = [
            Topic(name, kind, int(np.count_nonzero(self._of == n)), definitions.get(kind, ""))
            for n, (name, kind) in self._topics.items()
        ]
        self.start = int(self._times[0]) if len(self._times) else FOREVER
        self.end = int(self._times[-1]) if len(self._times) else 0

    def messages(self, topics: frozenset[str], start: int, stop: int) -> Iterator[Message]:
        """See ``Storage``; messages that cannot be read are noted in ``lost``."""
        first, last = np.searchsorted(self._times, (start, stop))
        wanted = [n for n, (name, _) in self._topics.items() if name in topics]
        places = first + np.flatnonzero(np.isin(self._of[first:last], wanted))
        with closing(self._connect()) as database:
            for place in places:
                number, topic = int(self._ids[place]), self._topics[int(self._of[place])]
                data = _data(database, number)
                if data is None:
                    what = f"messages of {topic[0]} are damaged and lost"
                    self.lost.append(Loss(number, what))
                    continue
                yield Message(int(self._times[place]), *topic, data)

    def _connect(self) -> sqlite3.Connection:
        """Open the file for reading, with the journal that a crashed recorder left if possible.

        Raises:
            OSError: it cannot be read.
        """
        self._path.open("rb").close()  # sqlite3 does not say why it cannot open a file
        address = f"file:{quote(os.fsencode(self._path.resolve()))}"
        for options in ("mode=ro", "mode=ro&immutable=1"):
            database = sqlite3.connect(f"{address}?{options}", uri=True, check_same_thread=False)
            try:
                # A file shorter than its header says is refused otherwise.
                database.execute("PRAGMA writable_schema = ON")
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return database
            except sqlite3.Error as error:
                database.close()
                failure = error
        raise failure

    def _scan(self, database: sqlite3.Connection) -> None:
        """Note id, topic and time of all messages, sorted by time."""
        rows: list[tuple[int, int, int]] = []
        # In the order of the table, which needs neither an index nor memory to sort.
        found = database.execute("SELECT id, topic_id, timestamp FROM messages ORDER BY id")
        try:
            rows.extend(found)
        except sqlite3.Error:
            self.lost.append(
                f"{self._path.name} breaks off: the copy is incomplete or the disk was full; "
                f"{len(rows)} messages were found in it"
            )
        whole = [row for row in rows if all(isinstance(v, int) for v in row) and row[2] >= 0]
        if count := len(rows) - len(whole):
            self.lost.append(Loss(0, "messages have no time or topic and are lost", count))
        table = np.array(whole, np.int64).reshape(-1, 3)
        table = table[np.argsort(table[:, 2], kind="stable")]
        self._ids, self._of, self._times = table[:, 0], table[:, 1], table[:, 2]


def _data(database: sqlite3.Connection, number: int) -> bytes | None:
    """A message; None if it is damaged or far too large."""
    try:
        row = database.execute(
            "SELECT data FROM messages WHERE id = ? AND length(data) <= ?", (number, MOST_BYTES)
        ).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row is not None and isinstance(row[0], bytes) else None


def _definitions(database: sqlite3.Connection) -> dict[str, str]:
    """Texts of the message types, which ROS 2 Iron and later put into the file."""
    try:
        rows = database.execute(
            "SELECT topic_type, encoded_message_definition FROM message_definitions "
            "WHERE encoding = 'ros2msg'"
        )
        return dict(rows.fetchall())
    except sqlite3.Error:
        return {}


INFO = StorageInfo(ending=".db3", open=SqliteFile)

# SPDX-License-Identifier: Apache-2.0
"""A place for one item, where a newer one replaces an older one that nobody took."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestSlot(Generic[Item]):
    """Hands the newest item from one thread to another; the slow one never gets an old item."""

    def __init__(self) -> None:
        """Start open and empty."""
        self._changed = Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Store ``item``; return True if it replaced one that was never taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def take(self) -> Item | None:
        """Wait for an item and remove it; None once the slot is closed."""
        with self._changed:
            while self._item is None and not self._closed:
                self._changed.wait()
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """End every ``take``, now and later; an item still in the slot is forgotten."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

# SPDX-License-Identifier: Apache-2.0
"""A place for one item of each sender, where a newer one replaces an older one nobody took."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestSlots(Generic[Item]):
    """Hands the newest items from other threads to one; the slow one never gets an old item.

    Senders take turns: between two items of one sender, every other whose item waits is served.
    So an item, or a newer one in its place, is taken after at most as many as there are others.
    """

    def __init__(self, senders: int = 1) -> None:
        """Start open and empty, with a slot for each of ``senders``."""
        self._changed = Condition()
        self._items: list[Item | None] = [None] * senders
        self._last = senders - 1
        self._closed = False

    def put(self, item: Item, sender: int = 0) -> bool:
        """Store ``item``; return True if it replaced one that was never taken."""
        with self._changed:
            replaced = self._items[sender] is not None
            self._items[sender] = item
            self._changed.notify()
        return replaced

    def take(self) -> Item | None:
        """Wait for an item and remove it; None once the slots are closed."""
        with self._changed:
            while not self._closed:
                for sender in self._turns():
                    if (item := self._items[sender]) is not None:
                        self._items[sender] = None
                        self._last = sender
                        return item
                self._changed.wait()
            return None

    def close(self) -> None:
        """End every ``take``, now and later; items still in the slots are forgotten."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _turns(self) -> list[int]:
        """All senders, first the one after the last served."""
        first = self._last + 1
        return [*range(first, len(self._items)), *range(first)]

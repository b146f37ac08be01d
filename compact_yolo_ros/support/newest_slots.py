# SPDX-License-Identifier: Apache-2.0
"""A slot for each sender, in which a newer item replaces an older one that was not taken."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestSlots(Generic[Item]):
    """Passes the newest items of several threads to one: a slow receiver never gets an old item.

    Senders take turns: between two items of one sender, every other sender with a waiting item is
    served. So at most one item of each other sender is taken before an item or its replacement.
    """

    def __init__(self, senders: int = 1) -> None:
        """Start open and empty, with one slot for each of ``senders`` senders."""
        self._changed = Condition()
        self._items: list[Item | None] = [None] * senders
        self._last = senders - 1
        self._closed = False

    def put(self, item: Item, sender: int = 0) -> bool:
        """Store ``item``; return whether it replaced one that was not taken."""
        with self._changed:
            replaced = self._items[sender] is not None
            self._items[sender] = item
            self._changed.notify()
        return replaced

    def take(self) -> Item | None:
        """Wait for an item, remove it and return it; None after ``close``."""
        with self._changed:
            while not self._closed:
                for sender in self._turns():
                    if (item := self._items[sender]) is not None:
                        self._items[sender] = None
                        self._last = sender
                        return item
                self._changed.wait()
            return None

    def take_more(self, most: int) -> list[Item]:
        """What waits of other senders than the one served last, in turn; it does not wait."""
        taken: list[Item] = []
        with self._changed:
            for sender in self._turns()[:-1]:
                item = self._items[sender]
                if len(taken) < most and item is not None:
                    self._items[sender] = None
                    self._last = sender
                    taken.append(item)
        return taken

    def close(self) -> None:
        """Make every ``take`` return None, now and later; items in the slots are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _turns(self) -> list[int]:
        """All senders, beginning after the one served last."""
        first = self._last + 1
        return [*range(first, len(self._items)), *range(first)]

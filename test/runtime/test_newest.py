# SPDX-License-Identifier: Apache-2.0
"""The newest-frame slot between two threads."""

from __future__ import annotations

from threading import Thread

from compact_yolo_ros.newest import NewestSlot


def test_a_newer_item_replaces_one_nobody_took() -> None:
    slot: NewestSlot[int] = NewestSlot()
    assert [slot.put(n) for n in (1, 2, 3)] == [False, True, True]
    assert slot.take() == 3
    assert slot.put(4) is False


def test_closing_wakes_the_waiting_thread_and_forgets_the_item() -> None:
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int | None] = []
    thread = Thread(target=lambda: taken.append(slot.take()))
    thread.start()
    slot.close()
    thread.join(5)
    assert taken == [None]
    slot.put(1)
    assert slot.take() is None


def test_every_item_is_taken_or_counted_as_replaced_and_order_is_kept() -> None:
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int] = []

    def consume() -> None:
        while (item := slot.take()) is not None:
            taken.append(item)
            if item == 20_000:
                return

    thread = Thread(target=consume)
    thread.start()
    replaced = sum(slot.put(n) for n in range(1, 20_001))
    thread.join(30)
    assert taken == sorted(taken)
    assert len(taken) + replaced == 20_000
    assert taken[-1] == 20_000

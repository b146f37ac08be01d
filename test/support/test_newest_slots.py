# SPDX-License-Identifier: Apache-2.0
"""The newest-frame slots between threads."""

from __future__ import annotations

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.support.newest_slots import NewestSlots

pytestmark = pytest.mark.timeout(60)  # a fault here is a wait without end
PATIENCE = 20.0


def test_a_newer_item_replaces_one_that_was_not_taken() -> None:
    slots: NewestSlots[int] = NewestSlots()
    assert [slots.put(n) for n in (1, 2, 3)] == [False, True, True]
    assert slots.take() == 3
    assert slots.put(4) is False


def test_closing_wakes_the_waiting_thread_and_drops_the_item() -> None:
    slots: NewestSlots[int] = NewestSlots()
    taken: list[int | None] = []
    # a daemon: a fault must fail this test, not keep the process from ending
    thread = Thread(target=lambda: taken.append(slots.take()), daemon=True)
    thread.start()
    slots.close()
    thread.join(PATIENCE)
    assert taken == [None]
    slots.put(1)
    assert slots.take() is None


def test_every_item_is_taken_or_counted_as_replaced_and_order_is_kept() -> None:
    slots: NewestSlots[tuple[int, int]] = NewestSlots(2)
    taken: dict[int, list[int]] = {0: [], 1: []}
    replaced = [0, 0]

    def consume() -> None:
        while (item := slots.take()) is not None:
            taken[item[0]].append(item[1])
            if all(numbers[-1:] == [10_000] for numbers in taken.values()):
                return

    def produce(sender: int) -> None:
        replaced[sender] = sum(slots.put((sender, n), sender) for n in range(1, 10_001))

    threads = [Thread(target=consume, daemon=True)]
    threads += [Thread(target=produce, args=(n,), daemon=True) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for sender, numbers in taken.items():
        assert numbers == sorted(numbers)
        assert numbers[-1] == 10_000
        assert len(numbers) + replaced[sender] == 10_000


@given(st.integers(1, 5), st.data())
def test_no_sender_waits_for_more_than_one_round(senders: int, data: st.DataObject) -> None:
    slots: NewestSlots[int] = NewestSlots(senders)
    served_while_waiting: dict[int, list[int]] = {}
    for step in data.draw(st.lists(st.integers(-senders, senders - 1), max_size=60)):
        if step >= 0:
            assert slots.put(step, step) is (step in served_while_waiting)
            served_while_waiting.setdefault(step, [])
        elif served_while_waiting:
            taken = slots.take()
            assert taken in served_while_waiting
            others = served_while_waiting.pop(taken)
            assert len(others) == len(set(others))  # each other one at most once before it
            for waiting in served_while_waiting.values():
                waiting.append(taken)


def test_what_waits_of_the_others_is_taken_in_turn_and_at_once() -> None:
    slots: NewestSlots[str] = NewestSlots(4)
    for sender in (3, 1, 0):
        slots.put("abcd"[sender], sender)
    assert slots.take() == "a"
    slots.put("a again", 0)  # it has had its turn
    assert slots.take_more(1) == ["b"]
    assert slots.take_more(5) == ["d", "a again"]
    assert slots.take_more(5) == []  # nothing waits

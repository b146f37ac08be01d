# SPDX-License-Identifier: Apache-2.0
"""Tracks on synthetic sequences whose truth is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.tracking.bytetrack import GAP, LATE, MOST_LOST, ByteTracker
from compact_yolo_ros.detection.tracking.options import TrackingOptions

SECOND = 10**9
RATE = 30
Thing = tuple[Sequence[float], float, int]
"""Box, score, label."""


def detections(things: Iterable[Thing]) -> Detections:
    """Best first, as a detector gives them."""
    ranked = sorted(things, key=lambda thing: -thing[1])
    return Detections(
        np.array([box for box, _, _ in ranked], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in ranked], np.float32),
        np.array([label for *_, label in ranked], np.int32),
    )


def at(x: float, y: float = 100.0, width: float = 60.0, height: float = 120.0) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def times(seconds: float, rate: float = RATE, start: float = 1.7e9) -> list[int]:
    return [round((start + number / rate) * SECOND) for number in range(round(seconds * rate))]


def follow(
    tracker: ByteTracker, stamps: Sequence[int], scene: Callable[[float], Iterable[Thing]]
) -> list[Detections]:
    """What the tracker makes of a scene, which is given seconds since the first stamp."""
    return [
        tracker.step(stamp, detections(scene((stamp - stamps[0]) / SECOND))).found
        for stamp in stamps
    ]


def ids_near(results: Sequence[Detections], x_of: Callable[[int], float]) -> set[int]:
    """Ids of what is at ``x_of`` the number of each result, but for the first image."""
    found = set()
    for number, result in enumerate(results):
        centres = (result.boxes[:, 0] + result.boxes[:, 2]) / 2
        near = np.abs(centres - x_of(number)) < 3
        found |= set(result.ids[near].tolist()) if number else set()
    return found


def test_the_id_comes_with_the_second_image() -> None:
    tracker = ByteTracker(TrackingOptions())
    first, second, third = follow(tracker, times(0.1), lambda t: [(at(100 + 60 * t), 0.9, 0)])
    assert first.ids.tolist() == [NO_TRACK]
    assert second.ids.tolist() == third.ids.tolist() == [1]


def test_two_that_cross_keep_their_ids() -> None:
    """They pass at 120 pixels a second each, and cover each other for half a second."""

    def scene(t: float) -> list[Thing]:
        return [(at(100 + 120 * t, 100), 0.9, 0), (at(400 - 120 * t, 130), 0.8, 0)]

    results = follow(ByteTracker(TrackingOptions()), times(2.5), scene)
    assert ids_near(results[:30], lambda n: 100 + 120 * n / RATE) == {1}
    assert ids_near(results[-30:], lambda n: 100 + 120 * (n + 45) / RATE) == {1}
    assert ids_near(results[:30], lambda n: 400 - 120 * n / RATE) == {2}
    assert ids_near(results[-30:], lambda n: 400 - 120 * (n + 45) / RATE) == {2}


def test_what_is_hidden_for_half_a_second_comes_back_with_its_id() -> None:
    def scene(t: float) -> list[Thing]:
        return [] if 1.0 <= t < 1.5 else [(at(100 + 100 * t), 0.9, 0)]

    tracker = ByteTracker(TrackingOptions())
    results = follow(tracker, times(2.5), scene)
    assert {int(i) for result in results[1:] for i in result.ids} == {1}
    assert (tracker.counts.new, tracker.counts.lost, tracker.counts.refound) == (1, 1, 1)
    assert (tracker.active, tracker.counts.ended) == (1, 0)


@pytest.mark.parametrize("rate", [5, 30, 100])
@pytest.mark.parametrize(("hidden", "ids"), [(0.7, {1}), (1.3, {1, 2})])
def test_the_buffer_is_of_time_whatever_the_rate(rate, hidden, ids) -> None:
    def scene(t: float) -> list[Thing]:
        return [] if 1.0 <= t < 1.0 + hidden else [(at(100), 0.9, 0)]

    results = follow(ByteTracker(TrackingOptions()), times(4, rate), scene)
    assert {int(i) for result in results for i in result.ids} - {NO_TRACK} == ids


@pytest.mark.parametrize("step", [2, 3, 5])
def test_dropped_images_lose_nothing(step) -> None:
    """One that moves by its own width in a quarter of a second; images come at random."""
    random = np.random.default_rng(step)
    stamps = times(3)
    kept = [*stamps[:4], *(s for s in stamps[4:] if random.random() < 1 / step)]
    results = follow(ByteTracker(TrackingOptions()), kept, lambda t: [(at(50 + 240 * t), 0.9, 0)])
    assert {int(i) for result in results[1:] for i in result.ids} == {1}


def test_a_low_score_continues_a_track_and_begins_none() -> None:
    def scene(t: float) -> list[Thing]:
        weak = [(at(400), 0.2, 0)]
        return [(at(100), 0.2 if 0.5 <= t < 2.5 else 0.9, 0), *weak]

    tracker = ByteTracker(TrackingOptions(high_score=0.5, low_score=0.1))
    results = follow(tracker, times(3), scene)
    assert ids_near(results, lambda n: 100) == {1}
    assert ids_near(results, lambda n: 400) == {NO_TRACK}
    assert tracker.counts.lost == 0


def test_only_so_many_of_the_best_begin_a_track_and_all_are_continued() -> None:
    def scene(t: float) -> list[Thing]:
        return [(at(100), 0.9 if t < 0.5 else 0.7, 0), (at(400), 0.8, 0)]

    results = follow(ByteTracker(TrackingOptions(most=1)), times(1), scene)
    assert ids_near(results[: RATE // 2], lambda n: 400) == {NO_TRACK}
    assert ids_near(results, lambda n: 100) == {1}
    assert results[-1].ids.tolist() == [2, 1]  # the other one is the best by now


def test_scores_below_the_low_one_do_nothing() -> None:
    def scene(t: float) -> list[Thing]:
        return [(at(100), 0.05 if t >= 0.5 else 0.9, 0)]

    tracker = ByteTracker(TrackingOptions(high_score=0.5, low_score=0.1))
    results = follow(tracker, times(1), scene)
    assert results[-1].ids.tolist() == [NO_TRACK]
    assert tracker.active == 0


def test_a_low_score_does_not_find_a_lost_track() -> None:
    """The second association is for tracks of the last image only (algorithm 1)."""

    def scene(t: float) -> list[Thing]:
        if 0.5 <= t < 0.7:
            return []
        return [(at(100), 0.2 if t >= 0.7 else 0.9, 0)]

    results = follow(ByteTracker(TrackingOptions(high_score=0.5)), times(1), scene)
    assert results[-1].ids.tolist() == [NO_TRACK]


@pytest.mark.parametrize(("by_class", "ids"), [(True, {1, 2}), (False, {1})])
def test_a_change_of_the_class(by_class, ids) -> None:
    def scene(t: float) -> list[Thing]:
        return [(at(100 + 30 * t), 0.9, int(t >= 1))]

    tracker = ByteTracker(TrackingOptions(by_class=by_class))
    results = follow(tracker, times(2), scene)
    assert {int(i) for result in results for i in result.ids} - {NO_TRACK} == ids
    assert results[-1].labels.tolist() == [1]


def test_two_cameras_share_ids_but_no_tracks() -> None:
    ids = count(1)
    left, right = (ByteTracker(TrackingOptions(), ids) for _ in range(2))
    for stamp in times(0.5):
        found = detections([(at(100), 0.9, 0)])
        of_left, of_right = left.step(stamp, found).found, right.step(stamp, found).found
    assert (of_left.ids.tolist(), of_right.ids.tolist()) == ([1], [2])


def test_a_recording_that_begins_again_has_other_ids() -> None:
    tracker = ByteTracker(TrackingOptions())
    scene: Callable[[float], list[Thing]] = lambda t: [(at(100), 0.9, 0)]  # noqa: E731
    stamps = times(2)
    once, again = follow(tracker, stamps, scene), follow(tracker, stamps, scene)
    assert {int(i) for result in once[1:] for i in result.ids} == {1}
    assert again[0].ids.tolist() == [NO_TRACK]
    assert {int(i) for result in again[1:] for i in result.ids} == {2}
    assert (tracker.counts.resets, tracker.counts.ended) == (1, 1)


def test_images_of_another_size_or_camera_have_other_ids() -> None:
    tracker, scene = ByteTracker(TrackingOptions()), detections([(at(100), 0.9, 0)])
    sources = ["front"] * 3 + ["rear"] * 3
    results = [
        tracker.step(stamp, scene, source).found
        for stamp, source in zip(times(0.2), sources, strict=True)
    ]
    ids = [int(found.ids[0]) for found in results]
    assert ids == [NO_TRACK, 1, 1, NO_TRACK, 2, 2]
    assert (tracker.counts.resets, tracker.counts.ended) == (1, 1)


def test_an_image_that_was_overtaken_ends_nothing() -> None:
    tracker = ByteTracker(TrackingOptions())
    stamps = times(1)
    stamps[10], stamps[12] = stamps[12], stamps[10]
    assert stamps[10] - stamps[12] < LATE
    results = follow(tracker, stamps, lambda t: [(at(100 + 30 * t), 0.9, 0)])
    assert {int(i) for result in results[1:] for i in result.ids} == {1}
    assert tracker.counts.resets == 0


@pytest.mark.parametrize("ahead", [5.0, 1e9])
def test_a_gap_ends_the_tracks_before_it(ahead) -> None:
    tracker = ByteTracker(TrackingOptions())
    stamps = times(0.5)
    later = [stamp + round(ahead * SECOND) for stamp in stamps]
    results = follow(tracker, [*stamps, *later], lambda t: [(at(100), 0.9, 0)])
    assert results[len(stamps) - 1].ids.tolist() == [1]
    assert results[len(stamps)].ids.tolist() == [NO_TRACK]
    assert results[-1].ids.tolist() == [2]


@pytest.mark.parametrize("buffer", [0.0, 1.0])
def test_a_slow_camera_has_tracks_whatever_the_buffer(buffer) -> None:
    """Images come two seconds apart, more or less; the first two show how far apart they are."""
    stamps = [stamp + (n % 3) * SECOND // 5 for n, stamp in enumerate(times(40, rate=0.5))]
    tracker = ByteTracker(TrackingOptions(buffer=buffer))
    scene: Callable[[float], list[Thing]] = lambda t: [] if 19 < t < 21 else [(at(100), 0.9, 0)]  # noqa: E731
    results = follow(tracker, stamps, scene)
    assert [result.ids.tolist() for result in results[:4]] == [[NO_TRACK], [NO_TRACK], [1], [1]]
    assert {int(i) for result in results[:10] for i in result.ids} == {NO_TRACK, 1}
    assert {int(i) for result in results[12:] for i in result.ids} == {2}, "it was not seen once"


def test_one_stamp_for_all_images_is_a_scene_that_stands_still() -> None:
    results = follow(ByteTracker(TrackingOptions()), [5] * 20, lambda t: [(at(100), 0.9, 0)])
    assert {int(i) for result in results[1:] for i in result.ids} == {1}


def test_options_change_between_two_images() -> None:
    tracker = ByteTracker(TrackingOptions(buffer=10.0))
    scene: Callable[[float], list[Thing]] = lambda t: [(at(100), 0.9, 0)] if t < 1 else []  # noqa: E731
    follow(tracker, times(2), scene)
    assert tracker.counts.ended == 0
    tracker.options = TrackingOptions(buffer=0.1)
    tracker.step(times(3)[-1], detections([]))
    assert tracker.counts.ended == 1


def test_the_tracks_have_the_boxes_of_the_filter() -> None:
    random = np.random.default_rng(1)
    tracker, raw, smooth = ByteTracker(TrackingOptions()), [], []
    for stamp in times(4):
        box = np.array(at(100)) + random.normal(0, 3, 4)
        tracked = tracker.step(stamp, detections([(box, 0.9, 3)]))
        if len(tracked.tracks):
            raw.append(tracked.found.boxes[0] - at(100))
            smooth.append(tracked.tracks.boxes[0] - at(100))
            assert tracked.tracks.labels.tolist() == [3]
            assert tracked.tracks.scores == pytest.approx([0.9])
            assert tracked.tracks.ids.tolist() == [1]
    assert np.std(smooth[30:]) < 0.9 * np.std(raw[30:])


def test_lost_tracks_are_bounded() -> None:
    tracker = ByteTracker(TrackingOptions(buffer=60.0))
    for number, stamp in enumerate(times(1)):
        place = number // 2  # every second image shows other things
        things = [(at(100 * column, 200 * place), 0.9, 0) for column in range(100)]
        tracker.step(stamp, detections(things))
    assert tracker.counts.new == 1500
    assert tracker.counts.ended == tracker.counts.lost - MOST_LOST


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[int, Detections]]:
    images = []
    stamp = draw(st.integers(0, 2**40))
    for _ in range(draw(st.integers(1, 12))):
        stamp = max(0, stamp + draw(st.integers(-SECOND, 2 * SECOND)))
        count = draw(st.integers(0, 8))
        place = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2)
        things = [
            ((x, y, x + w, y + h), draw(st.sampled_from([0.05, 0.2, 0.6, 0.9])), label)
            for (x, y, w, h), label in draw(
                st.lists(st.tuples(place, st.integers(0, 2)), min_size=count, max_size=count)
            )
        ]
        images.append((stamp, detections(things)))
    return images


@settings(max_examples=60)
@given(sequences(), st.booleans(), st.sampled_from([0.0, 0.5, 5.0]))
def test_what_always_holds(images, by_class, buffer) -> None:
    tracker = ByteTracker(TrackingOptions(0.5, 0.1, buffer, by_class))
    last_seen: dict[int, int] = {}
    ended: set[int] = set()
    label_of: dict[int, int] = {}
    highest, before, passed, shown = 0, 0, 0, []
    for number, (stamp, found) in enumerate(images):
        tracked = tracker.step(stamp, found)
        ids = tracked.found.ids
        np.testing.assert_array_equal(tracked.found.boxes, found.boxes)
        just_seen, shown = shown, [int(i) for i in ids if i != NO_TRACK]
        assert len(set(shown)) == len(shown)
        assert tracked.tracks.ids.tolist() == shown
        assert np.isfinite(tracked.tracks.boxes).all()
        assert (ids[found.scores < 0.1] == NO_TRACK).all()
        new = [i for i in shown if i not in last_seen]
        assert sorted(new) == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)
        if number and stamp < before - LATE:
            ended |= last_seen.keys()
        before_that, passed = passed, max(0, stamp - before) if number else 0
        kept = just_seen if passed <= GAP * before_that else []
        late = {i for i, seen in last_seen.items() if stamp - seen > buffer * SECOND}
        ended |= late.difference(kept)
        assert not ended & set(shown)
        for i, label in zip(ids.tolist(), found.labels.tolist(), strict=True):
            if by_class and i != NO_TRACK:
                assert label_of.setdefault(i, label) == label
        last_seen |= dict.fromkeys(shown, stamp)
        before = stamp
        assert tracker.active == len(shown)
    counts = tracker.counts
    assert counts.new == highest
    assert 0 <= counts.refound <= counts.lost
    assert counts.ended <= counts.new

# SPDX-License-Identifier: Apache-2.0
"""Labels of MOTChallenge, and the tracks that other formats hold."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from compact_yolo_ros.labels.coco import read_coco
from compact_yolo_ros.labels.detections_topic import read_detections_topic
from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.labels.mot import MOT_CLASSES, read_mot


def mot(folder: Path, *lines: str, names: str = "") -> Path:
    path = folder / "gt.txt"
    path.write_text("\n".join(lines) + "\n")
    if names:
        (folder / "labels.txt").write_text(names)
    return path


def test_a_line_is_an_object_of_a_frame(tmp_path: Path) -> None:
    path = mot(
        tmp_path,
        "1,4,10,20,30,40,1,1,0.9",
        "3, 4, 12.5, 20, 30, 40, 1, 3, 1.0",
        "3,9,0,0,5,5,0,8,1",
    )
    classes, truths = read_mot(path, 4)
    assert classes == MOT_CLASSES
    assert [len(truth) for truth in truths] == [1, 0, 1, 0]
    first, _, third, last = truths
    assert first.boxes.tolist() == [[10, 20, 40, 60]]
    assert (first.labels.tolist(), first.tracks.tolist()) == ([0], [4])
    assert (third.boxes.tolist(), third.labels.tolist()) == ([[12.5, 20, 42.5, 60]], [2])
    assert (third.ignored.tolist(), third.ignored_labels.tolist()) == ([[0, 0, 5, 5]], [0])
    assert last.tracks is not None and not len(last.tracks)


@pytest.mark.parametrize(
    ("label", "ignored"), [(2, [0]), (7, [0]), (8, [0]), (12, [0]), (3, [2]), (9, [8]), (13, [12])]
)
def test_what_is_nearly_a_pedestrian_is_ignored_as_one(
    tmp_path: Path, label: int, ignored: list[int]
) -> None:
    """As TrackEval does: a pedestrian found there is not wrong."""
    (tmp_path / "gt.txt").write_text(f"1,1,10,10,20,40,0,{label},1\n")
    _, (truth,) = read_mot(tmp_path / "gt.txt")
    assert truth.ignored_labels is not None and truth.ignored_labels.tolist() == ignored
    (tmp_path / "labels.txt").write_text("\n".join(f"class {n}" for n in range(13)))
    _, (truth,) = read_mot(tmp_path / "gt.txt")
    assert truth.ignored_labels is not None and truth.ignored_labels.tolist() == [label - 1]


def test_names_beside_the_file_and_lines_without_a_class(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,1,10,20,30,40", "1,2,10,20,30,40,1,-1,-1,-1", names="ball\nrobot\n")
    classes, (truth,) = read_mot(path)
    assert classes == ("ball", "robot")
    assert truth.labels.tolist() == [0, 0]


def test_a_mark_of_the_encoding_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = mot(tmp_path, "\ufeff1,1,10,20,30,40", names="\ufeffball\r\nrobot\r\n")
    classes, (truth,) = read_mot(path)
    assert classes == ("ball", "robot") and truth.labels.tolist() == [0]


@pytest.mark.parametrize("names", ["ball\n\nrobot\n", "ball\nball\n", "\n"])
def test_names_are_as_strict_as_in_other_formats(tmp_path: Path, names: str) -> None:
    """Past an empty line, every class would have the name of the next one."""
    with pytest.raises(LabelError, match=r"labels\.txt must have the name of a class on each line"):
        read_mot(mot(tmp_path, "1,1,10,20,30,40,1,2,1", names=names))


def test_names_in_another_encoding_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("F\u00fc\u00dfe\n", "cp1252")
    with pytest.raises(LabelError, match=r"labels\.txt: 'utf-8' .*: save it as UTF-8"):
        read_mot(mot(tmp_path, "1,1,10,20,30,40"))


def test_empty_lines_may_follow_the_names(tmp_path: Path) -> None:
    classes, _ = read_mot(mot(tmp_path, "1,1,10,20,30,40", names="ball\nrobot\n\n \n"))
    assert classes == ("ball", "robot")


def test_frames_without_objects_take_no_memory(tmp_path: Path) -> None:
    path = mot(tmp_path, "100000,1,10,20,30,40")
    tracemalloc.start()
    try:
        _, truths = read_mot(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(truths) == 100_000 and not len(truths[0]) and len(truths[-1]) == 1
    assert truths[0].tracks is not None and not len(truths[0].tracks)
    assert most < 10_000_000, "an object of its own for each frame takes 110 MB"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1,2,3", "line 1 is not"),
        ("1,2,nan,3,4,5", "line 1 is not"),
        ("one,2,3,3,4,5", "line 1 is not"),
        ("0,2,3,3,4,5", "frame outside"),
        ("9e99,2,3,3,4,5", "frame outside"),
        ("1,2,3,3,4,5,1,77", "class 77"),
        ("1.033,2,3,3,4,5", r"line 1 has the frame 1\.033, .*whole number"),
        ("12,2.5,3,3,4,5", r"line 1 has the track 2\.5, .*whole number"),
        ("12,2,3,3,4,5,1,7.25,3.1,0", r"line 1 has the class 7\.25, .*whole number"),
    ],
)
def test_bad_lines_are_a_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(LabelError, match=sentence):
        read_mot(mot(tmp_path, line))


@pytest.mark.parametrize(
    ("keys", "tracks"),
    [
        ([{"track_id": 7}, {"track_id": "8"}], [7, 8]),
        ([{"attributes": {"track_id": 7}}, {"attributes": {"track_id": 9, "x": 1}}], [7, 9]),
        ([{"track_id": 7}, {}], None),
        ([{"track_id": 7}, {"track_id": "left"}], None),
        ([{"track_id": 7}, {"track_id": 2**70}], None),
        ([{}, {}], None),
        ([{"track_id": 7}, {"iscrowd": 1}], [7]),
        ([{"track_id": 7}, {"score": 0.1}], [7]),
    ],
)
def test_tracks_in_cocos_json(tmp_path: Path, keys: list[dict], tracks: list[int] | None) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [n, 1, 5, 5], **more}
            for n, more in enumerate(keys)
        ],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    (image,) = read_coco(path).images
    found = image.truth(0.5).tracks
    assert (None if found is None else found.tolist()) == tracks


def test_a_number_of_hundreds_of_digits_is_no_class_number() -> None:
    """Python reads no more than 4,300 digits."""
    hypothesis = SimpleNamespace(class_id="9" * 5000, score=1.0)
    centre = SimpleNamespace(position=SimpleNamespace(x=5.0, y=5.0))
    box = SimpleNamespace(center=centre, size_x=2.0, size_y=2.0)
    thing = SimpleNamespace(results=[SimpleNamespace(hypothesis=hypothesis)], bbox=box, id="")
    classes, _ = read_detections_topic([(0, SimpleNamespace(detections=[thing]))], ["car"])
    assert classes == ("9" * 5000,)


@pytest.mark.parametrize(
    ("ids", "tracks"), [(["b", "a", "b"], [[0, 1], [0]]), (["1", "", "1"], [None, [0]])]
)
def test_tracks_in_a_topic(ids: list[str], tracks: object) -> None:
    def thing(name: str) -> SimpleNamespace:
        centre = SimpleNamespace(position=SimpleNamespace(x=5.0, y=5.0))
        box = SimpleNamespace(center=centre, size_x=2.0, size_y=2.0)
        hypothesis = SimpleNamespace(class_id="car", score=1.0)
        result = SimpleNamespace(hypothesis=hypothesis)
        return SimpleNamespace(results=[result], bbox=box, id=name)

    first, second, third = map(thing, ids)
    messages = [SimpleNamespace(detections=[first, second]), SimpleNamespace(detections=[third])]
    _, stamped = read_detections_topic(enumerate(messages), ())
    found = [None if truth.tracks is None else truth.tracks.tolist() for _, truth in stamped]
    assert found == tracks

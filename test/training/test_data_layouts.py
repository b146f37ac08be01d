# SPDX-License-Identifier: Apache-2.0
"""Data sets as labelling tools export them: labels are found, or said to be missing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import describe, draw_image, voc_object

from compact_yolo_ros.support.folders import files_below
from training.data import check
from training.data.dataset import open_split, read_classes
from training.train import main as train

NAMES = ["ball", "robot"]
TEXTS = {"a": "0 .5 .5 .5 .5\n", "b": "1 .25 .5 .1 .2\n0 .5 .5 .2 .2\n"}
BOXES = {"a": [[20, 10, 60, 30]], "b": [[16, 16, 24, 24], [32, 16, 48, 24]]}
"""Pixels of the pictures of 80 x 40, from the definition of the format."""
LABELS = {"a": [0], "b": [1, 0]}


def write(folder: Path, images: str, labels: str, seed: int = 0) -> None:
    """The pictures of TEXTS at ``images``, and their labels; {} in both stands for the name."""
    for number, (name, text) in enumerate(TEXTS.items()):
        draw_image(folder / images.format(name), seed + number)
        path = folder / labels.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def assert_read(data: Path, split: str = "train") -> None:
    found = open_split(data, split)
    assert not found.bad_files and len(found) == len(TEXTS)
    for sample in found:
        name = sample.name.removesuffix("_jpg.rf.0a1b2c")
        assert np.allclose(sample.boxes, BOXES[name], atol=1e-3), name
        assert sample.labels.tolist() == LABELS[name]


@pytest.mark.parametrize(
    ("images", "labels", "entry"),
    [
        pytest.param("images/train/{}.jpg", "images/train/{}.txt", "images/train", id="darknet"),
        pytest.param("images/{}.png", "images/{}.txt", "images", id="LabelImg"),
        pytest.param("shots/{}.png", "shots/{}.txt", "shots", id="beside, another folder"),
        pytest.param("{}.png", "{}.txt", ".", id="all in one folder"),
        pytest.param("images/train/{}.jpg", "Labels/train/{}.txt", "images/train", id="Labels"),
        pytest.param("Images/train/{}.jpg", "Labels/train/{}.txt", "Images/train", id="Images"),
        pytest.param("images/train/{}.jpg", "LABELS/train/{}.TXT", "images/train", id="TXT"),
        pytest.param("images/train/{}.JPG", "images/train/{}.TXT", "images/train", id="TXT beside"),
        pytest.param("images/train/{}.jpg", "labels/{}.txt", "images/train", id="flat labels"),
        pytest.param("shots/train/{}.jpg", "labels/train/{}.txt", "shots/train", id="shots"),
        pytest.param("train/{}.jpg", "train/labels/{}.txt", "train", id="inner folder"),
        pytest.param("train/images/{}.jpg", "train/labels/{}.txt", "train", id="whole split"),
        pytest.param("JPEGImages/{}.jpg", "labels/{}.txt", "JPEGImages", id="darknet's VOC"),
        pytest.param("images/{}.jpg", "labels/{}.jpg.txt", "images", id="double suffix"),
        pytest.param(
            "train/images/{}_jpg.rf.0a1b2c.jpg",
            "train/labels/{}_jpg.rf.0a1b2c.txt",
            "../train/images",
            id="Roboflow",
        ),
        pytest.param(
            "train/images/{}.jpg", "train/labels/{}.txt", "/content/Set-1/train/images", id="Colab"
        ),
        pytest.param("train/images/{}.jpg", "train/labels/{}.txt", "..\\train\\images", id="\\"),
    ],
)
def test_a_folder_is_read_as_tools_write_it(
    tmp_path: Path, images: str, labels: str, entry: str
) -> None:
    write(tmp_path / "set", images, labels)
    (tmp_path / "set/classes.txt").write_text("ball\nrobot\n")
    assert_read(describe(tmp_path / "set", names=NAMES, train=entry))


@pytest.mark.parametrize(
    "line", ["obj_train_data/{}.png", "data/obj_train_data/{}.png", "data\\obj_train_data\\{}.png"]
)
def test_a_list_of_another_place_is_read(tmp_path: Path, line: str) -> None:
    write(tmp_path, "obj_train_data/{}.png", "obj_train_data/{}.txt")
    (tmp_path / "train.txt").write_text("".join(f"{line.format(name)}\n" for name in TEXTS))
    assert_read(describe(tmp_path, names=NAMES, train="train.txt"))
    (tmp_path / "obj.names").write_text("ball\nrobot\n\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\nnames = data/obj.names\ntrain = data/train.txt\nbackup = backup/\n"
    )
    assert read_classes(tmp_path / "obj.data") == tuple(NAMES)
    assert_read(tmp_path / "obj.data")


def test_a_list_is_relative_to_its_own_folder_too(tmp_path: Path) -> None:
    write(tmp_path / "set", "images/{}.png", "labels/{}.txt")
    (tmp_path / "set/train.txt").write_text("./images/a.png\n./images/b.png\n")
    assert_read(describe(tmp_path, names=NAMES, train="set/train.txt"))


def test_a_path_that_is_gone_is_that_of_the_description(tmp_path: Path) -> None:
    write(tmp_path, "images/{}.png", "labels/{}.txt")
    data = describe(tmp_path, names=NAMES, path="../datasets/set", train="images")
    assert_read(data)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("train = train.txt\n", "names = FILE"),
        ("names = no.names\n", "No such file"),
        ("names = gap.names\n", "gap.names must have the name of a class on each line"),
    ],
)
def test_a_wrong_data_file_is_one_clear_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "gap.names").write_text("ball\n\nrobot\n")
    (tmp_path / "obj.data").write_text(content)
    with pytest.raises(ValueError, match=rf"obj\.data cannot be read: .*{says}") as caught:
        read_classes(tmp_path / "obj.data")
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of the usual layout, whose first picture has lost its labels."""
    for split, seed in (("train", 0), ("val", 10)):
        write(tmp_path, f"images/{split}/{{}}.png", f"labels/{split}/{{}}.txt", seed)
    describe(tmp_path, names=NAMES, train="images/train", val="images/val")
    (tmp_path / "labels/train/a.txt").unlink()
    return tmp_path


def reasons(folder: Path) -> dict[str, str]:
    found = open_split(folder / "data.yaml", "train")
    assert [sample.name for sample in found] == ["b"]
    return {bad.path.name: bad.reason for bad in found.bad_files}


@pytest.mark.parametrize("place", ["labels/valid/a.txt", "labels/train/A.txt", "labels/x/y/a.txt"])
def test_labels_in_a_wrong_place_are_never_taken_for_no_objects(folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text(TEXTS["a"])
    assert f"{place} has its name" in reasons(folder)["a.png"]


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("images/train/a.xml", "format: voc"),
        ("annotations/train/a.xml", "format: voc"),
        ("Annotations/train/a.json", "COCO"),
        ("labels/train/a.json", "COCO"),
    ],
)
def test_labels_of_another_format_are_never_taken_for_no_objects(
    folder: Path, place: str, says: str
) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("<annotation/>")
    reason = reasons(folder)["a.png"]
    assert says in reason and place in reason


def test_two_label_files_that_differ_leave_the_image_out(folder: Path) -> None:
    (folder / "labels/train/a.txt").write_text(TEXTS["a"])
    (folder / "images/train/a.txt").write_text(TEXTS["b"])
    reason = reasons(folder)["a.png"]
    assert "labels/train/a.txt" in reason and "images/train/a.txt" in reason
    shutil.copy(folder / "labels/train/a.txt", folder / "images/train/a.txt")
    assert len(open_split(folder / "data.yaml", "train")) == 2, "a copy says the same"


def test_a_label_file_that_cannot_be_read_is_a_bad_file(folder: Path) -> None:
    (folder / "labels/train/a.txt").mkdir()
    (folder / "images/train/a.txt").write_text(TEXTS["a"])
    assert "delete one" in reasons(folder)["a.png"]
    (folder / "images/train/a.txt").unlink()
    assert reasons(folder)["a.txt"] == "Is a directory"


def test_labels_that_two_splits_could_own_leave_the_image_out(folder: Path) -> None:
    (folder / "labels/a.txt").write_text(TEXTS["a"])
    assert "not the only image" in reasons(folder)["a.png"]


def test_the_labels_of_another_split_are_no_sign_of_missing_ones(folder: Path) -> None:
    found = open_split(folder / "data.yaml", "train")
    assert [len(sample.boxes) for sample in found] == [0, 2] and not found.bad_files


def test_notes_beside_the_images_are_no_labels(tmp_path: Path) -> None:
    write(tmp_path, "set/{}.png", "set/{}.txt")
    for name in ("classes.txt", "train.txt", "README.txt"):
        (tmp_path / "set" / name).write_text("set/a.png\n")
    (tmp_path / "set/._a.png").write_bytes(b"macOS")
    (tmp_path / "set/z.TXT").write_text(TEXTS["a"])
    found = open_split(describe(tmp_path, names=NAMES, train="set"), "train")
    assert [bad.path.name for bad in found.bad_files] == ["z.TXT"] and len(found) == 2


@pytest.mark.parametrize("labels", ["images/more/{}.txt", "labels/more/{}.txt"])
def test_folders_that_are_linked_to_are_read(tmp_path: Path, labels: str) -> None:
    write(tmp_path / "disk", "images/more/{}.png", labels)
    for name in {"images", labels.partition("/")[0]}:
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "linked").symlink_to(tmp_path / "disk" / name / "more")
    assert_read(describe(tmp_path / "set", names=NAMES, train="images"))


def test_a_link_within_the_images_shows_none_twice(tmp_path: Path) -> None:
    write(tmp_path / "set", "images/z/{}.png", "labels/z/{}.txt")
    (tmp_path / "set/images/a").symlink_to(tmp_path / "set/images/z")
    (tmp_path / "set/images/around").symlink_to(tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/back").symlink_to(tmp_path / "set")
    (tmp_path / "set/images/out").symlink_to(tmp_path / "other")
    assert_read(describe(tmp_path / "set", names=NAMES, train="images"))


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_folder_that_several_links_lead_to_shows_none_twice(tmp_path: Path, names: str) -> None:
    """One link leads to all pictures on a disk, the other one to some of them."""
    whole, part = names
    write(tmp_path / "disk", "images/more/{}.png", "labels/more/{}.txt")
    (tmp_path / "disk/images/again").symlink_to(tmp_path / "disk/images/more")
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        (tmp_path / "set" / kind / whole).symlink_to(tmp_path / "disk" / kind)
        (tmp_path / "set" / kind / part).symlink_to(tmp_path / "disk" / kind / "more")
    found = sorted(files_below(tmp_path / "set/images"))
    assert len(found) == len({path.resolve() for path in found})
    assert_read(describe(tmp_path / "set", names=NAMES, train="images"))


@pytest.mark.parametrize("suffix", [".gif", ".TIF", ".tiff", ".heic"])
def test_pictures_that_are_not_read_are_named(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "images/{}.png", "labels/{}.txt")
    (tmp_path / f"images/c{suffix}").write_bytes(b"GIF89a")
    (tmp_path / "labels/c.txt").write_text(TEXTS["a"])
    found = open_split(describe(tmp_path, names=NAMES, train="images"), "train")
    (bad,) = found.bad_files
    assert bad.path.name == f"c{suffix}" and "convert it to JPEG or PNG" in bad.reason


def run_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["check", "--data", str(folder / "data.yaml")])
    with pytest.raises(SystemExit) as left:
        check.main()
    return left.value.code


def no_val(folder: Path) -> str:
    describe(folder, names=NAMES, train="images/train")
    return "there is no 'val'"


def no_objects(folder: Path) -> str:
    for path in (folder / "labels/val").iterdir():
        path.write_text("")
    return "no image of 'val' shows an object"


def no_folder(folder: Path) -> str:
    describe(folder, names=NAMES, train="images/train", val="images/valid")
    return "images/valid does not exist"


def no_images(folder: Path) -> str:
    (folder / "images/none").mkdir()
    describe(folder, names=NAMES, train="images/train", val="images/none")
    return "images/none holds no images"


@pytest.mark.parametrize("break_it", [no_val, no_objects, no_folder, no_images])
def test_what_training_would_refuse_the_check_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Path], str]
) -> None:
    says = break_it(folder)
    assert says in str(run_check(folder, monkeypatch))
    if break_it is no_val:
        says = "no split 'val'"
    out = str(folder / "run")
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(folder / "data.yaml"), "--out", out])
    with pytest.raises(SystemExit, match=says):
        train()


def test_who_has_no_validation_images_is_told_how_to_hold_some_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_val(folder)
    assert "hold_out: 50" in str(run_check(folder, monkeypatch))
    with pytest.raises(ValueError, match="hold_out: 50"):
        open_split(folder / "data.yaml", "val")
    describe(folder, names=NAMES, train="images/train", hold_out=1)
    assert len(open_split(folder / "data.yaml", "val")) == 1


def test_the_check_notes_what_nobody_may_mean(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels/val/a.txt").write_text("0 .5 .5 .004 .5\n0 .98 .5 .2 .5\n0 1 .5 .02 .5\n")
    (folder / "labels/val/b.txt").write_text("")
    monkeypatch.setattr(sys, "argv", ["check", "--data", str(folder / "data.yaml")])
    check.main()
    printed = capsys.readouterr().out
    assert "train: 1 of 2 images have no label file" in printed
    # The second reaches 6.4 pixels out of the 80, the third 0.8: within rounding.
    assert "val: boxes that reach beyond the image and are clipped: 1." in printed
    # 0.32 of 80 pixels are 1.3 of 320; what is left of the third are 3.2.
    assert "below 3 pixels at 320, which are hardly learnt: 1" in printed
    assert "val: classes without a box: robot" in printed and "train: classes" not in printed
    assert "No bad files" in printed


@pytest.mark.parametrize(
    ("keys", "lines", "says"),
    [
        ({}, {"a": "0 .25 .5 .5 .25 .75 .75", "b": "1 .2 .4 .3 .4 .3 .6 .2 .6"}, "polygons"),
        (
            {"kpt_shape": [1, 2]},
            {"a": "0 .5 .5 .5 .5 .1 .1", "b": "1 .25 .5 .1 .2 0 0"},
            "keypoints",
        ),
    ],
)
def test_objects_that_are_no_boxes_are_taken_for_boxes_and_said_once(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    keys: dict,
    lines: dict,
    says: str,
) -> None:
    for name, line in lines.items():
        (folder / f"labels/train/{name}.txt").write_text(f"{line}\n")
    for path in (folder / "labels/val").iterdir():
        path.unlink()
    (folder / "labels/val/a.txt").write_text("1 .5 .5 .5 .5" + " .1 .1" * bool(keys))
    data = describe(folder, names=NAMES, train="images/train", val="images/val", **keys)
    a, b = open_split(data, "train")
    assert np.allclose(a.boxes, BOXES["a"]) and np.allclose(b.boxes, BOXES["b"][:1])
    monkeypatch.setattr(sys, "argv", ["check", "--data", str(data)])
    check.main()
    printed = capsys.readouterr().out
    (line,) = (
        line for line in printed.splitlines() if line.startswith("Note: train: 2 label files")
    )
    assert says in line and "their boxes are used" in line


@pytest.mark.parametrize("names", [["[/ball]", "robot"], ["ball [a]", ":car:"], ["a|b", "[red]"]])
def test_the_check_prints_names_as_they_are(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
) -> None:
    (folder / "labels/train/a.txt").write_text(TEXTS["a"])
    describe(folder, names=names, train="images/train", val="images/val")
    monkeypatch.setattr(sys, "argv", ["check", "--data", str(folder / "data.yaml")])
    check.main()
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if line[:1] in "│┃") <= 80
    for name in names:
        assert sum(line.startswith(f"│ {name} ") for line in lines) == 2, "in train and in val"


def test_a_voc_object_is_no_yolo_label(tmp_path: Path) -> None:
    draw_image(tmp_path / "images/a.png", 1)
    (tmp_path / "images/a.xml").write_text(f"<a>{voc_object('ball', (1, 1, 9, 9))}</a>")
    with pytest.raises(ValueError, match="format: voc"):
        open_split(describe(tmp_path, names=NAMES, train="images"), "train")

# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil
import struct
import sys

import pytest
from drawn_sets import describe, draw_image, voc_object, write_coco, write_voc, write_yolo

from training.data import check
from training.data.dataset import DataError, open_split


@pytest.fixture
def folder(tmp_path):
    write_yolo(tmp_path, {"a": "0 .5 .5 .5 .5", "b": "1 .5 .5 .1 .1", "c": ""}, ["cat", "dog"])
    return tmp_path


def bad_files(folder, split="train", **how):
    """The files left out of a split, by name, with the reasons."""
    found = open_split(folder / "data.yaml", split, **how)
    return {bad.path.name: bad.reason for bad in found.bad_files}, [s.name for s in found]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2 .5 .5 .1 .1", "class 2"),
        ("-1 .5 .5 .1 .1", "class -1"),
        ("0.5 0 0 1 1", "class 0.5"),
        ("0 .5 .5 .1", "five numbers"),
        ("0 .5 .5 nan .1", "five numbers"),
        ("0 .5 .5 .1 .1\nx", "line 2"),
        ("0 1.5 .5 .1 .1", "outside the image"),
        ("0 .5 .5 0 .1", "empty"),
        ("0 .5 .5 -.1 .1", "empty"),
    ],
)
def test_an_image_with_a_bad_label_is_left_out(folder, line, says):
    (folder / "labels/train/b.txt").write_text(line)
    bad, good = bad_files(folder)
    assert list(bad) == ["b.txt"] and says in bad["b.txt"]
    assert good == ["a", "c"]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_a_cut_off_image_is_left_out(folder, tmp_path, suffix, kept, cache):
    image = folder / f"images/train/d{suffix}"
    draw_image(image, 50, (60, 60))
    content = image.read_bytes()
    image.write_bytes(content[: int(len(content) * kept)])
    bad, good = bad_files(folder, cache=cache, cache_folder=tmp_path / "cache")
    assert list(bad) == [f"d{suffix}"] and "readable" in bad[f"d{suffix}"]
    assert good == ["a", "b", "c"]


def test_an_image_larger_than_its_decoder_takes_is_left_out(folder):
    image = folder / "images/train/d.bmp"
    draw_image(image, 50, (60, 60))
    content = bytearray(image.read_bytes())
    content[18:26] = struct.pack("<ii", 100_000, 100_000)  # width and height
    image.write_bytes(content)
    bad, good = bad_files(folder)
    assert list(bad) == ["d.bmp"] and "readable" in bad["d.bmp"]
    assert good == ["a", "b", "c"]


def test_labels_without_an_image_are_reported(folder):
    (folder / "labels/train/z.txt").write_text("0 .5 .5 .1 .1")
    (folder / "labels/train/classes.txt").write_text("cat\ndog\n")
    assert bad_files(folder) == ({"z.txt": "labels without an image"}, ["a", "b", "c"])


def test_a_second_copy_of_an_image_is_left_out(folder):
    shutil.copy(folder / "images/train/a.png", folder / "images/train/d.png")
    bad, good = bad_files(folder)
    assert "same image" in bad["d.png"] and "a.png" in bad["d.png"]
    assert good == ["a", "b", "c"]


def test_images_that_share_their_labels_are_left_out(folder):
    draw_image(folder / "images/train/a.jpg", 50)
    draw_image(folder / "images/train/c.bmp", 60)
    (folder / "labels/train/c.txt").unlink()
    bad, good = bad_files(folder)
    assert bad.keys() == {"a.jpg", "a.png"} and "labels/train/a.txt" in bad["a.jpg"]
    assert good == ["b", "c", "c"], "without a label file there is nothing to share"


def test_listed_images_that_are_missing_or_duplicate_are_reported(folder):
    listed = ["a.png", "none.png", "a.png"]
    (folder / "list.txt").write_text("".join(f"images/train/{name}\n" for name in listed))
    describe(folder, names=["cat", "dog"], train="list.txt")
    bad, good = bad_files(folder)
    assert bad == {"none.png": "does not exist", "a.png": "is listed twice"} and good == ["a"]


def test_a_folder_is_read_recursively(folder):
    draw_image(folder / "images/train/deep/er/a.png", 50)
    for name in ("a", "z"):
        label = folder / f"labels/train/deep/er/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("1 .5 .5 .1 .1")
    found = open_split(folder / "data.yaml", "train")
    assert [(s.name, s.labels.tolist()) for s in found] == [
        ("a", [0]),
        ("b", [1]),
        ("c", []),
        ("a", [1]),
    ]
    assert [bad.path.name for bad in found.bad_files] == ["z.txt"]


def test_marks_and_line_ends_of_windows_are_read(folder):
    (folder / "labels/train/b.txt").write_bytes("\ufeff1 .5 .5 .1 .1\r\n0 .5 .5 .2 .2\r\n".encode())
    listed = "\ufeffimages/train/b.png\r\nimages/train/c.png\r\n"
    (folder / "list.txt").write_bytes(listed.encode())
    describe(folder, names=["cat", "dog"], train="list.txt")
    found = open_split(folder / "data.yaml", "train")
    assert [s.labels.tolist() for s in found] == [[1, 0], []] and not found.bad_files


def test_an_image_set_of_windows_is_read(tmp_path):
    write_voc(tmp_path, "VOC2007", "train", {"a": [], "b": []})
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_bytes("\ufeffa\r\nb\r\n".encode())
    describe(tmp_path, format="voc", train="VOC2007/train")
    assert bad_files(tmp_path) == ({}, ["a", "b"])


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<annotation>", "not XML"),
        ("<a><size><width>9</width><height>9</height></size></a>", "9x9"),
        (f"<a>{voc_object('unicorn', (1, 1, 2, 2))}</a>", "unicorn"),
        (f"<a>{voc_object('cat', (50, 1, 20, 2))}</a>", "empty"),
        (f"<a>{voc_object('cat', (90, 1, 99, 2))}</a>", "outside"),
        (f"<a>{voc_object('cat', ('', 1, 9, 2))}</a>", "xmin"),
        ("<a><object><name>cat</name></object></a>", "bndbox"),
        (None, "does not exist"),
    ],
)
def test_bad_voc_annotations_are_reported(tmp_path, xml, says):
    write_voc(tmp_path, "VOC2007", "train", {"a": [], "b": []})
    describe(tmp_path, format="voc", train="VOC2007/train")
    file = tmp_path / "VOC2007/Annotations/b.xml"
    if xml is None:
        file.unlink()
    else:
        file.write_text(xml)
    bad, good = bad_files(tmp_path)
    assert list(bad) == ["b.xml"] and says in bad["b.xml"]
    assert good == ["a"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"category_id": 7}, "category 7"),
        ({"bbox": [1, 2, 3]}, "four numbers"),
        ({"bbox": None}, "four numbers"),
        ({"bbox": [1, 2, 0, 3]}, "empty"),
        ({"bbox": [200, 2, 5, 3]}, "outside"),
    ],
)
def test_bad_coco_annotations_are_reported(tmp_path, change, says):
    row = {"image_id": 11, "category_id": 1, "bbox": [1, 2, 3, 4], **change}
    write_coco(tmp_path, {1: "car"}, [row], 2)
    describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    bad, good = bad_files(tmp_path)
    assert list(bad) == ["1.jpg"] and says in bad["1.jpg"]
    assert good == ["0"]


def test_a_coco_image_of_another_size_is_reported(tmp_path):
    file = write_coco(tmp_path, {1: "car"}, [], 2)
    content = json.loads(file.read_text())
    content["images"][1]["width"] = 99
    file.write_text(json.dumps(content))
    describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    bad, _ = bad_files(tmp_path)
    assert "99x40" in bad["1.jpg"] and "80x40" in bad["1.jpg"]


def test_a_split_without_usable_images_is_an_error_with_a_reason(folder):
    for label in "abc":
        (folder / f"labels/train/{label}.txt").write_text("x")
    with pytest.raises(DataError, match=r"no good image.*a\.txt.*line 1"):
        open_split(folder / "data.yaml", "train")


@pytest.fixture
def trainable(folder):
    """A set with a split to measure on."""
    draw_image(folder / "images/val/v.png", 30)
    (folder / "labels/val").mkdir()
    (folder / "labels/val/v.txt").write_text("0 .5 .5 .5 .5\n1 .5 .5 .2 .2")
    describe(folder, names=["cat", "dog"], train="images/train", val="images/val")
    return folder


def run_check(monkeypatch, folder, *more):
    monkeypatch.setattr(sys, "argv", ["check", "--data", str(folder / "data.yaml"), *more])
    check.main()


def test_the_check_counts_boxes_and_passes_good_data(trainable, monkeypatch, capsys):
    run_check(monkeypatch, trainable)
    printed = capsys.readouterr().out
    lines = [line.split("│")[1:-1] for line in printed.split("\n") if "│" in line]
    cells = {}
    for line in lines:
        cells.setdefault(line[0].strip(), [cell.strip() for cell in line[1:]])
    assert cells["train"][:5] == ["3", "1", "2", "0", "0"]
    # half of 80x40 is 40x20: 28.3 pixels, and four times as much where 80 becomes 320
    assert cells["cat"][:4] == ["1", "1", "0", "113"] and cells["dog"][:2] == ["1", "1"]
    assert "No bad files" in printed


def test_the_check_lists_bad_files_and_fails(folder, monkeypatch, capsys):
    (folder / "labels/train/b.txt").write_text("7 0 0 1 1")
    with pytest.raises(SystemExit) as left:
        run_check(monkeypatch, folder)
    assert left.value.code == "Bad files: 1"  # a text: Python's exit code is 1
    assert "b.txt: line 1 has class 7" in capsys.readouterr().out


def test_the_check_finds_training_images_in_a_held_out_split(folder, monkeypatch, capsys):
    (folder / "images/val").mkdir()
    shutil.copy(folder / "images/train/a.png", folder / "images/val/x.png")
    describe(folder, names=["cat", "dog"], train="images/train", val="images/val")
    with pytest.raises(SystemExit):
        run_check(monkeypatch, folder)
    assert "x.png: is also in 'train'" in capsys.readouterr().out


@pytest.mark.parametrize("side", ["0", "-320"])
def test_a_side_that_is_none_is_refused(trainable, monkeypatch, side):
    """All boxes were tiny, or of sizes below 0."""
    with pytest.raises(SystemExit, match="2"):
        run_check(monkeypatch, trainable, f"--side={side}")


def test_errors_of_the_check_are_one_sentence(folder, monkeypatch):
    describe(folder, names=["cat"], train="nowhere")
    with pytest.raises(SystemExit, match="nowhere does not exist"):
        run_check(monkeypatch, folder)

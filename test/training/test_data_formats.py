# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from drawn_sets import describe, draw_image, voc_object, write_coco, write_voc, write_yolo
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.labels.voc import VOC_CLASSES
from compact_yolo_ros.labels.yolo import parse_labels
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.letterbox import Placement
from training.data.dataset import DataError, open_split, read_classes


def test_yolo_labels_are_read_as_pixels(tmp_path):
    texts = {"a": "1 0.5 0.5 0.25 0.5\n0 0 0 0.5 0.5\n", "b": ""}
    data = write_yolo(tmp_path, texts, ["cat", "dog"])
    draw_image(tmp_path / "images/train/c.png", 9)
    a, b, c = open_split(data, "train")
    assert a.image[0, 0].tolist() == [40, 40, 40] and a.image[10, 20].tolist() == [90, 30, 200]
    assert a.boxes.tolist() == [[30, 10, 50, 30], [0, 0, 20, 10]]
    assert a.labels.tolist() == [1, 0] and a.name == "a"
    assert len(b.boxes) == len(c.boxes) == 0, "no label, or no file of labels: no objects"


def test_a_yolo_split_may_be_a_list_of_files(tmp_path):
    write_yolo(tmp_path, {"a": "0 .5 .5 .1 .1", "b": "", "c": ""}, ["cat"])
    (tmp_path / "chosen.txt").write_text("images/train/c.png\nimages/train/a.png\n")
    data = describe(tmp_path, names=["cat"], train="chosen.txt", nc=1, name="Cats")
    assert [s.name for s in open_split(data, "train")] == ["c", "a"]


def test_class_names_may_be_a_map(tmp_path):
    assert read_classes(describe(tmp_path, names={0: "cat", 1: "dog"})) == ("cat", "dog")


@given(
    st.tuples(st.integers(16, 900), st.integers(16, 900)),
    st.lists(st.tuples(*[st.floats(0.01, 0.99)] * 4), max_size=5),
)
def test_labels_come_back_through_the_letterbox(shape, rows):
    lines = [f"0 {(a + c) / 2} {(b + d) / 2} {abs(a - c)} {abs(b - d)}" for a, b, c, d in rows]
    height, width = shape
    boxes = parse_labels(lines, classes=1).in_pixels_of(Size(width, height)).boxes
    place = Placement.fit((width, height), (320, 320))
    np.testing.assert_allclose(place.to_source(place.to_input(boxes)), boxes, atol=0.01)


def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path):
    whole, corner = voc_object("dog", (1, 1, 80, 40)), voc_object("cat", (1, 1, 1, 1))
    write_voc(tmp_path, "VOC2007", "trainval", {"000001": [whole, corner]})
    data = describe(tmp_path, format="voc", train="VOC2007/trainval")
    (sample,) = open_split(data, "train")
    assert sample.boxes.tolist() == [[0, 0, 80, 40], [0, 0, 1, 1]]
    assert [VOC_CLASSES[label] for label in sample.labels] == ["dog", "cat"]


def test_voc_boxes_enclose_the_drawn_pixels(tmp_path):
    # the rectangle of draw_image: columns 10..30 and rows 5..25 from 0, so 11..31 and 6..26 from 1
    write_voc(tmp_path, "VOC2012", "train", {"x": [voc_object("car", (11, 6, 31, 26))]})
    data = describe(tmp_path, format="voc", train="VOC2012/train")
    (sample,) = open_split(data, "train")
    rows, columns = np.nonzero(sample.image[..., 2].astype(int) > 120)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert sample.boxes[0].tolist() == list(found)


def test_voc07_and_voc12_are_joined_and_difficult_objects_ignored(tmp_path):
    difficult = voc_object("person", (3, 3, 20, 20), difficult=1)
    write_voc(tmp_path, "VOC2007", "trainval", {"000001": [difficult], "000002": []})
    write_voc(
        tmp_path, "VOC2012", "trainval", {"2008_1": [voc_object("tvmonitor", (5, 5, 9, 9))]}, 2
    )
    write_voc(tmp_path, "VOC2007", "test", {"000003": []}, 3)
    data = describe(
        tmp_path,
        format="voc",
        train=["VOC2007/trainval", "VOC2012/trainval"],
        val="VOC2007/test",
    )
    train, val = open_split(data, "train"), open_split(data, "val")
    assert [s.name for s in train] == ["000001", "000002", "2008_1"]
    assert [s.name for s in val] == ["000003"]
    assert len(train[0].boxes) == 0 and train[0].ignored.tolist() == [[2, 2, 20, 20]]
    assert train[2].labels.tolist() == [19] and train.classes == VOC_CLASSES


COCO_ROWS = [
    {"image_id": 10, "category_id": 90, "bbox": [10.5, 5, 20, 20.25]},
    {"image_id": 10, "category_id": 3, "bbox": [70, 30, 40, 40]},
    {"image_id": 12, "category_id": 3, "bbox": [-4, 0, 9, 9]},
    {"image_id": 12, "category_id": 3, "bbox": [1, 1, 60, 30], "iscrowd": 1},
]


def test_coco_is_read_as_pycocotools_reads_it(tmp_path):
    from pycocotools.coco import COCO

    file = write_coco(tmp_path, {90: "toothbrush", 3: "car"}, COCO_ROWS, 3)
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    read = open_split(data, "train")
    assert read.classes == read_classes(data) == ("car", "toothbrush"), "in the order of ids"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
    assert len(read) == len(coco.getImgIds())
    for sample, number in zip(read, coco.getImgIds(), strict=True):
        for crowd, boxes in ((False, sample.boxes), (True, sample.ignored)):
            rows = coco.loadAnns(coco.getAnnIds([number], iscrowd=crowd))
            expected = [
                (max(x, 0), max(y, 0), min(x + w, 80), min(y + h, 40))
                for x, y, w, h in (row["bbox"] for row in rows)
            ]
            np.testing.assert_allclose(boxes, np.array(expected).reshape(-1, 4))
            if not crowd:
                names = [coco.loadCats(row["category_id"])[0]["name"] for row in rows]
                assert [read.classes[label] for label in sample.labels] == names


def test_coco_classes_may_be_put_in_another_order(tmp_path):
    write_coco(tmp_path, {90: "toothbrush", 3: "car"}, COCO_ROWS, 3)
    parts = {"images": "train", "annotations": "train.json"}
    data = describe(tmp_path, format="coco", names=["toothbrush", "car", "bus"], train=parts)
    assert open_split(data, "train")[0].labels.tolist() == [0, 1]
    data = describe(tmp_path, format="coco", names=["car"], train=parts)
    with pytest.raises(DataError, match="toothbrush"):
        open_split(data, "train")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"names": ["a"], "format": "cvat"}, "cvat"),
        ({"names": []}, "names"),
        ({"names": ["on", True], "train": "x"}, "reads one of 'names' as True: put it in quotes"),
        ({"names": ["a"], "labeled": ["a"]}, "there is no key 'labeled', did you mean 'labelled'?"),
        ({"names": ["a", "a"]}, "twice"),
        ({"names": {1: "a"}}, "names"),
        ({"names": {"x": 1, 0: "a"}}, "names"),
        ({"train": "images/train"}, "names"),
        ({"names": ["a"], "val": "images/val"}, "'train'"),
        ({"names": ["a"], "train": "images/none"}, "images/none does not exist"),
        ({"names": ["a"], "train": "none.txt"}, "none.txt does not exist"),
        ({"names": ["a"], "valid": "images/val"}, "no key 'valid', did you mean 'val'"),
        ({"names": ["a"], "train": "images/train", "labelled": ["b"]}, "labelled"),
        ({"names": ["a"], "sources": []}, "sources"),
        ({"names": ["a"], "sources": [{"folder": "x"}]}, "'data'"),
        ({"names": ["a"], "sources": [{"data": "none.yaml"}]}, "none.yaml"),
        ({"names": ["a"], "sources": [{"data": "data.yaml"}]}, "name those directly"),
        ({"names": ["a"], "sources": [{"data": "x"}], "train": "y"}, "own data.yaml"),
        (
            {"format": "voc", "train": "VOC2007/trainval"},
            "trainval.txt does not exist: without image sets, name a folder of images",
        ),
        ({"format": "coco", "train": "train.json"}, "annotations:"),
        (
            {"format": "coco", "train": {"images": "a", "annotations": "b"}},
            "b: cannot be read: No",
        ),
    ],
)
def test_a_wrong_description_is_one_clear_sentence(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as caught:
        open_split(describe(tmp_path, **content), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\n" + "c: &c [*b, *b]\nd: [*c, *c, *c]", "'names'"),
        ("a: &a " + "[x, x]\nb: &a [*a]", "stands for itself"),
        ("names: [" + "a, " * 100_001 + "]", "more than 100000 values"),
        ("names: " + "[" * 20_000, "nested deeper than 64"),
        ("names: [a]\ntrain: x\ntrain: y", "the key 'train' twice"),
        ("names: [a]\ntrain: .inf", "the number inf"),
    ],
)
def test_a_hostile_description_is_one_clear_sentence(tmp_path, text, says):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        open_split(tmp_path / "data.yaml", "train")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"images": [], "images": [], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [], "categories": [{"id": 1e999, "name": "a"}]}',
        *("[", "{}", "[]", '{"images": [], "annotations": [], "categories": [{}]}'),
        '{"images": [{"id": [1]}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
    ],
)
def test_a_json_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    data = describe(tmp_path, format="coco", train={"images": ".", "annotations": "x.json"})
    with pytest.raises(DataError, match=r"x\.json"):
        open_split(data, "train")


def test_coco_rows_that_fit_nothing_are_reported(tmp_path):
    file = write_coco(tmp_path, {1: "car"}, [], 1)
    content = json.loads(file.read_text())
    content["images"] += [content["images"][0], {"id": 5}]
    content["annotations"] = [{"id": 1, "image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    file.write_text(json.dumps(content))
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    found = open_split(data, "train")
    assert len(found) == 1 and [bad.path for bad in found.bad_files] == [file] * 3


def as_texts(content):
    """Numbers as Labelbox and others write them."""
    for table in ("images", "annotations", "categories"):
        for row in content[table]:
            row.update(
                {key: str(row[key]) for key in row if key.endswith("id") or key == "iscrowd"}
            )
    for row in content["images"]:
        row.update(width=str(row["width"]), height=str(row["height"]))


def as_floats(content):
    for row in [*content["images"], *content["annotations"]]:
        row.update({key: float(row[key]) for key in row if key.endswith("id")})


def without_sizes(content):
    content["images"][0].update(width=0, height=0)
    content["images"][1].update(width=None, height=None)
    del content["images"][2]["width"]


def with_ids_from_zero(content):
    for row in content["images"]:
        row["id"] -= 10
    for row in content["annotations"]:
        row["image_id"] -= 10


def with_flags_of_other_kinds(content):
    for row, value in zip(content["annotations"], (None, False, "false", "True"), strict=True):
        row["iscrowd"] = value


def shown(samples):
    return [(s.boxes.tolist(), s.labels.tolist(), s.ignored.tolist()) for s in samples]


@pytest.mark.parametrize(
    "change", [as_texts, as_floats, without_sizes, with_ids_from_zero, with_flags_of_other_kinds]
)
def test_coco_as_tools_write_it_says_the_same(tmp_path, change):
    file = write_coco(tmp_path, {90: "toothbrush", 3: "car"}, COCO_ROWS, 3)
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    before = [
        (s.boxes.tolist(), s.labels.tolist(), s.ignored.tolist()) for s in open_split(data, "train")
    ]
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    found = open_split(data, "train")
    assert not found.bad_files and found.classes == ("car", "toothbrush")
    assert shown(found) == before


def test_text_ids_that_look_like_numbers_of_python_are_texts(tmp_path):
    file = write_coco(
        tmp_path, {1: "car"}, [{"image_id": "1_0", "category_id": 1, "bbox": [1, 1, 9, 9]}], 2
    )
    content = json.loads(file.read_text())
    content["images"][0]["id"], content["images"][1]["id"] = "1_0", "10"
    file.write_text(json.dumps(content))
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    assert [len(sample.boxes) for sample in open_split(data, "train")] == [1, 0]


def with_categories(folder, split, categories, used, images):
    """A split of Roboflow's: a root of all classes, and boxes of the categories ``used``."""
    rows = [{"image_id": 10, "category_id": number, "bbox": [1, 1, 9, 9]} for number in used]
    file = write_coco(folder, {}, rows, images, split)
    content = json.loads(file.read_text())
    content["categories"] = [
        {"id": number, "name": name, "supercategory": group} for number, name, group in categories
    ]
    file.write_text(json.dumps(content))


ROOT = (0, "balls", "none")


@pytest.mark.parametrize(
    ("categories", "used", "classes"),
    [
        ([ROOT, (1, "ball", "balls"), (2, "goal", "balls")], [1, 2], ("ball", "goal")),
        ([ROOT, (1, "ball", "balls")], [], ("ball",)),
        ([ROOT, (1, "ball", "balls")], [0, 1], ("balls", "ball")),
        ([(0, "ball", "none"), (1, "ball", "ball")], [1], ("ball",)),
        ([(0, "ball", "none"), (1, "ball", "none")], [1], ("ball",)),
        ([(0, "ball", "none"), (1, "ball", "none")], [], ("ball",)),
        ([(1, "person", "person"), (2, "car", "vehicle")], [2], ("person", "car")),
        ([(1, "person", "person"), (2, "rider", "person")], [2], ("person", "rider")),
        ([(1, "cat", "none"), (2, "dog", "none")], [], ("cat", "dog")),
    ],
)
def test_the_root_of_all_classes_is_no_class(tmp_path, categories, used, classes):
    with_categories(tmp_path, "train", categories, used, 1)
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    found = open_split(data, "train")
    assert found.classes == read_classes(data) == classes
    names = {number: name for number, name, _ in categories}
    assert [classes[label] for label in found[0].labels] == [names[number] for number in used]


def test_a_root_that_another_split_uses_is_a_class_of_both(tmp_path):
    categories = [ROOT, (1, "ball", "balls")]
    with_categories(tmp_path, "train", categories, [0, 1], 3)
    with_categories(tmp_path, "val", categories, [1], 1)
    splits = {s: {"images": s, "annotations": f"{s}.json"} for s in ("train", "val")}
    data = describe(tmp_path, format="coco", **splits)
    assert read_classes(data) == ("balls", "ball")
    assert [open_split(data, s)[0].labels.tolist() for s in splits] == [[0, 1], [1]]


def test_splits_of_other_classes_are_one_clear_sentence(tmp_path):
    write_coco(tmp_path, {1: "cat", 2: "dog"}, COCO_ROWS[:0], 3)
    write_coco(tmp_path, {1: "dog"}, [], 1, "val")
    splits = {s: {"images": s, "annotations": f"{s}.json"} for s in ("train", "val")}
    with pytest.raises(DataError, match=r"\['cat'\], which the file of another split has not"):
        open_split(describe(tmp_path, format="coco", **splits), "train")


def test_coco_paths_of_another_place_are_read(tmp_path):
    file = write_coco(tmp_path, {1: "car"}, [], 2)
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "images\\5\\0.jpg"
    content["images"][1]["file_name"] = "/label-studio/data/media/1.jpg"
    file.write_text(json.dumps(content))
    data = describe(tmp_path, format="coco", train={"images": "train", "annotations": "train.json"})
    assert [s.name for s in open_split(data, "train")] == ["0", "1"]


VOC_TEXT = voc_object("球", (11, 6, 30, 25)) + voc_object("球", (41, 1, 60, 20), difficult=1)


def write_xml(path, xml, seed, encoding="utf-8", image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(xml.encode(encoding))
    draw_image(image or path.with_suffix(".jpg"), seed)


def assert_voc(data):
    (sample,) = found = open_split(data, "train")
    assert not found.bad_files and sample.labels.tolist() == [0]
    assert sample.boxes.tolist() == [[10, 5, 30, 25]]
    assert sample.ignored.tolist() == [[40, 0, 60, 20]]


@pytest.mark.parametrize(
    ("xml", "image"),
    [
        ("train/a.xml", "train/a.jpg"),
        ("annotations/a.xml", "train/a.png"),
        ("Annotations/a.XML", "train/a.JPEG"),
        ("train/labels/a.xml", "train/a.png"),
    ],
)
def test_voc_without_image_sets_is_read(tmp_path, xml, image):
    write_xml(tmp_path / xml, f"<a>{VOC_TEXT}</a>", 1, image=tmp_path / image)
    assert_voc(describe(tmp_path, format="voc", names=["球"], train="train"))


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".bmp"])
def test_voc_images_have_any_suffix(tmp_path, suffix):
    write_voc(tmp_path, "VOC2007", "train", {"a": [VOC_TEXT]})
    old = tmp_path / "VOC2007/JPEGImages/a.jpg"
    old.unlink()
    draw_image(old.with_suffix(suffix), 1)
    assert_voc(describe(tmp_path, format="voc", names=["球"], train="VOC2007/train"))


def test_voc_names_may_have_spaces_and_a_second_column(tmp_path):
    names = ["frame 1", "frame 12 b", "plain"]
    drawn = [voc_object("car", (1, 1, 9, 9))]
    write_voc(tmp_path, "VOC2007", "train", dict.fromkeys(names, drawn))
    sets = tmp_path / "VOC2007/ImageSets/Main"
    (sets / "car_train.txt").write_text("frame 1 -1\nframe 12 b  1\nplain  0\n")
    for image_set in ("train", "car_train"):
        data = describe(tmp_path, format="voc", train=f"VOC2007/{image_set}")
        found = open_split(data, "train")
        assert [sample.name for sample in found] == names and not found.bad_files
    (tmp_path / "VOC2007/JPEGImages/frame 12 b.jpg").unlink()
    (bad,) = open_split(data, "train").bad_files
    assert bad.path.name == "frame 12 b.jpg" and bad.reason == "does not exist"


@pytest.mark.parametrize("encoding", ["GB2312", "gbk", "Big5", "Shift_JIS", "utf-16", "latin-1"])
def test_voc_in_any_encoding_is_read(tmp_path, encoding):
    text = VOC_TEXT.replace("球", "ball") if encoding == "latin-1" else VOC_TEXT
    names = ["ball"] if encoding == "latin-1" else ["球"]
    xml = f'<?xml version="1.0" encoding="{encoding}"?><a>{text}</a>'
    write_xml(tmp_path / "train/a.xml", xml, 1, encoding)
    assert_voc(describe(tmp_path, format="voc", names=names, train="train"))


def test_a_path_in_an_encoding_that_is_not_stated_does_not_matter(tmp_path):
    xml = f"<a><path>D:/图片/a.jpg</path>{VOC_TEXT.replace('球', 'ball')}</a>"
    write_xml(tmp_path / "train/a.xml", xml, 1, "gbk")
    assert_voc(describe(tmp_path, format="voc", names=["ball"], train="train"))


@pytest.mark.parametrize("yes", ["1", "True", " true\n", "1.0"])
@pytest.mark.parametrize("no", ["0", "False", "", "false"])
def test_difficult_objects_may_be_said_in_words(tmp_path, yes, no):
    tag = "<difficult>{}</difficult>".format
    xml = VOC_TEXT.replace(tag(1), tag(yes)).replace(tag(0), tag(no))
    size = "<size><width>0</width><height>0</height></size>"
    write_xml(tmp_path / "train/a.xml", f"<a>{size}{xml}</a>", 1)
    assert_voc(describe(tmp_path, format="voc", names=["球"], train="train"))


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (voc_object("a", (1, 1, 9, 9)).replace("<difficult>0", "<difficult>maybe"), "maybe"),
        ('<!DOCTYPE a [<!ENTITY x "lol">]><a>&x;</a>', "defines entities"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "not XML"),
    ],
)
def test_voc_that_cannot_be_read_is_a_bad_file(tmp_path, xml, says):
    write_xml(tmp_path / "train/a.xml", xml if "<a" in xml else f"<a>{xml}</a>", 1)
    draw_image(tmp_path / "train/b.jpg", 2)
    write_xml(tmp_path / "train/c.xml", "<a/>", 3)
    found = open_split(describe(tmp_path, format="voc", names=["a"], train="train"), "train")
    reasons = {bad.path.name: bad.reason for bad in found.bad_files}
    assert says in reasons["a.xml"] and reasons["b.xml"] == "does not exist"
    assert [sample.name for sample in found] == ["c"], "without XML an image is not empty"

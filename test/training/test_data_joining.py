# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os

import pytest
from drawn_sets import describe, voc_object, write_coco, write_voc, write_yolo

from training.data.dataset import DataError, open_split
from training.data.joining import list_split, split_names

NAMES = ["human", "ball", "goal"]


@pytest.fixture
def sources(tmp_path):
    """Three data sets of two classes each; images differ in number, so that none is there twice."""
    write_yolo(
        tmp_path / "field", {"a": "0 .5 .5 .5 .5\n1 .5 .5 .1 .1"}, ["ball", "goal"], val="images"
    )
    write_voc(
        tmp_path / "street",
        "VOC2007",
        "train",
        {
            "b": [
                voc_object("person", (1, 1, 9, 9)),
                voc_object("car", (2, 2, 9, 9)),
                voc_object("car", (5, 5, 9, 9), difficult=1),
            ]
        },
        seed=20,
    )
    describe(tmp_path / "street", format="voc", train="VOC2007/train")
    row = {"image_id": 10, "category_id": 5, "bbox": [1, 1, 30, 30]}
    write_coco(tmp_path / "sport", {5: "sports ball", 9: "goalpost"}, [row], 1)
    describe(
        tmp_path / "sport", format="coco", train={"images": "train", "annotations": "train.json"}
    )
    return tmp_path


def held_out(data) -> dict[str, list[str]]:
    return {
        split: [image.path.name for image in list_split(data, split).images]
        for split in ("train", "val")
    }


def test_images_are_held_out_of_train(tmp_path):
    labels = {f"{number}": "0 .5 .5 .5 .5" for number in range(12)}
    write_yolo(tmp_path, labels, ["ball"])
    data = describe(tmp_path, names=["ball"], train="images", test="images", hold_out=4)
    found = held_out(data)
    assert split_names(data) == ("train", "val", "test")
    assert len(found["val"]) == 4 and len(found["train"]) == 8
    assert sorted(found["val"] + found["train"]) == sorted(f"{name}.png" for name in labels)
    assert len(list_split(data, "test").images) == 12
    (tmp_path / "images" / "train" / "0.png").unlink()
    fewer = held_out(data)
    assert len(set(found["val"]) & set(fewer["val"])) >= 3, "another image changes one at most"


def test_images_with_names_that_are_not_utf8_are_held_out_too(tmp_path):
    write_yolo(tmp_path, dict.fromkeys("abcd", "0 .5 .5 .5 .5"), ["ball"])
    image, name = tmp_path / "images" / "train" / "a.png", os.fsdecode(b"stra\xdfe.png")
    image.rename(image.with_name(name))
    found = held_out(describe(tmp_path, names=["ball"], train="images", hold_out=1))
    assert len(found["val"]) == 1
    assert sorted(found["val"] + found["train"]) == ["b.png", "c.png", "d.png", name]


@pytest.mark.parametrize(
    "keys, sentence",
    [
        ({"hold_out": 12}, "'hold_out' is 12, and 'train' has 12 images"),
        ({"hold_out": 1.5}, "'hold_out' must be a number of images, not 1.5"),
        ({"hold_out": 3, "val": "images"}, "takes 'val' from 'train': give 'train', and no 'val'"),
    ],
)
def test_what_cannot_be_held_out_is_said(tmp_path, keys, sentence):
    write_yolo(tmp_path, {f"{n}": "0 .5 .5 .5 .5" for n in range(12)}, ["ball"])
    data = describe(tmp_path, names=["ball"], train="images", **keys)
    with pytest.raises(DataError, match=sentence):
        list_split(data, "val")


def test_sources_are_joined_under_our_classes(sources):
    data = describe(
        sources,
        names=NAMES,
        sources=[
            {"data": "field/data.yaml"},
            {"data": "street/data.yaml", "classes": {"person": "human", "car": None}},
            {
                "data": "sport/data.yaml",
                "classes": {"sports ball": "ball"},
                "labelled": ["human", "ball"],
            },
        ],
    )
    field, street, sport = open_split(data, "train")
    assert [NAMES[label] for label in field.labels] == ["ball", "goal"]
    assert field.unlabelled == {0}, "the field's images may show humans without a box"
    assert street.labels.tolist() == [0] and street.boxes.tolist() == [[0, 0, 9, 9]]
    assert len(street.ignored) == 0, "a dropped class leaves nothing behind"
    assert street.unlabelled == {1, 2}
    assert sport.labels.tolist() == [1] and sport.unlabelled == {2}


def test_a_data_set_may_say_which_classes_it_labels(tmp_path):
    data = write_yolo(tmp_path, {"a": "1 .5 .5 .2 .2"}, NAMES, labelled=["ball"])
    assert open_split(data, "train")[0].unlabelled == {0, 2}


def test_labelled_names_classes_of_the_annotations_where_the_description_names_none(tmp_path):
    write_coco(tmp_path, {1: "human", 2: "ball"}, [], 1)
    parts = {"images": "train", "annotations": "train.json"}
    data = describe(tmp_path, format="coco", train=parts, labelled=["ball"])
    assert open_split(data, "train")[0].unlabelled == {0}
    data = describe(tmp_path, format="coco", train=parts, labelled=["human", "bal"])
    with pytest.raises(
        DataError, match=r"'labelled' has \['bal'\], and the classes are human, ball"
    ):
        open_split(data, "train")


def test_classes_unlabelled_in_a_source_stay_unlabelled_when_joined(tmp_path):
    write_yolo(tmp_path / "part", {"a": ""}, ["goal", "ball"], labelled=["ball"])
    data = describe(tmp_path, names=NAMES, sources=[{"data": "part/data.yaml"}])
    assert open_split(data, "train")[0].unlabelled == {0, 2}


def test_splits_come_from_the_sources_that_have_them(sources):
    write_yolo(sources / "held", {"v": "0 .5 .5 .1 .1", "w": ""}, ["ball"], split="val")
    listed = [{"data": "field/data.yaml", "splits": ["train"]}, {"data": "held/data.yaml"}]
    data = describe(sources, names=NAMES, sources=listed)
    assert split_names(data) == ("train", "val")
    assert [s.name for s in open_split(data, "train")] == ["a"]
    assert [s.name for s in open_split(data, "val")] == ["v", "w"]
    with pytest.raises(DataError, match="'test'"):
        open_split(data, "test")


def test_a_repeated_source_is_shown_more_often_in_training_only(sources):
    listed = [{"data": "field/data.yaml", "repeat": 3}, {"data": "street/data.yaml"}]
    listed[1]["classes"] = {"person": "human"}
    data = describe(sources, names=NAMES, sources=listed)
    opened = open_split(data, "train")
    assert [sample.name for sample in opened] == ["a", "a", "a", "b"] and not opened.bad_files
    assert len(open_split(data, "val")) == 1


def test_a_repeated_source_is_repeated_in_a_set_that_says_what_it_labels(sources):
    listed = [{"data": "field/data.yaml", "repeat": 3}]
    data = describe(sources, names=NAMES, sources=listed, labelled=["ball"])
    opened = open_split(data, "train")
    assert [sample.name for sample in opened] == ["a", "a", "a"]
    assert opened[0].unlabelled == {0, 2}


def test_images_that_are_held_out_are_not_repeated(sources):
    listed = [
        {"data": name, "repeat": 3, "splits": ["train"]}
        for name in ("field/data.yaml", "street/data.yaml")
    ]
    listed[1]["classes"] = {"person": "human"}
    data = describe(sources, names=NAMES, sources=listed, hold_out=1)
    assert len(open_split(data, "val")) == 1 and len(open_split(data, "train")) == 3


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"repeat": 0}, "'repeat'"),
        ({"repeat": True}, "'repeat'"),
        ({"classes": {"cat": "ball"}}, "'cat'"),
        ({"classes": {"ball": "cat"}}, "'cat'"),
        ({"classes": {"ball": None}}, "none of the classes"),
        ({"classes": ["ball"]}, "'classes'"),
        ({"labelled": ["cat"]}, "'cat'"),
        ({"labelled": "ball"}, "'labelled'"),
        ({"splits": ["trian"]}, "trian"),
    ],
)
def test_a_wrong_mapping_is_one_clear_sentence(sources, source, says):
    data = describe(sources, names=NAMES, sources=[{"data": "field/data.yaml", **source}])
    with pytest.raises(DataError, match=says):
        open_split(data, "train")

# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from drawn_sets import describe, voc_object, write_coco, write_voc, write_yolo

from training.data.dataset import DataError, open_split
from training.data.joining import split_names

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


@pytest.mark.parametrize(
    ("source", "says"),
    [
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

# SPDX-License-Identifier: Apache-2.0
"""Labels from a teacher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from toy_model import CELL, CLASSES, write_toy_model

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.support.files import UNFINISHED
from training import distill
from training.data.dataset import open_split
from training.distill import answers
from training.distillation import teachers
from training.distillation.teachers import decode_yolox, fuse, open_teacher

GREEN, BLUE, RED = (0, 255, 0), (0, 0, 255), (200, 0, 0)
SIDE = 320


def paint(path: Path, squares: dict[tuple[int, int], tuple[int, int, int]]) -> None:
    """A black picture with squares of one cell at (x, y), colours RGB."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for (x, y), colour in squares.items():
        image[y : y + CELL, x : x + CELL] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def teacher(tmp_path) -> Path:
    return write_toy_model(tmp_path / "toy.onnx")


@pytest.fixture
def pictures(tmp_path) -> Path:
    paint(tmp_path / "pictures/a.png", {(32, 64): GREEN, (160, 160): RED})
    paint(tmp_path / "pictures/deep/a.png", {(96, 32): BLUE})
    paint(tmp_path / "pictures/none.png", {})
    return tmp_path / "pictures"


def run(*arguments: object) -> int:
    return distill.main([str(argument) for argument in arguments])


def boxes_of(sample) -> dict[str, list[float]]:
    return {CLASSES[n]: box for n, box in zip(sample.labels, sample.boxes.tolist(), strict=True)}


def test_images_without_labels_become_a_data_set(teacher, pictures, tmp_path):
    out = tmp_path / "taught"
    assert run("--teacher", teacher, "--images", pictures, "--out", out) == 0
    samples = {s.name: s for s in open_split(out / "data.yaml", "train")}
    assert set(samples) == {"a", "a~1", "none"}
    np.testing.assert_allclose(boxes_of(samples["a"])["green"], [32, 64, 48, 80], atol=0.01)
    np.testing.assert_allclose(boxes_of(samples["a"])["red"], [160, 160, 176, 176], atol=0.01)
    sure = dict(zip(samples["a"].labels, samples["a"].confidence, strict=True))
    assert sure == pytest.approx({1: 1, 0: 200 / 255}, abs=1e-3)
    np.testing.assert_allclose(boxes_of(samples["a~1"])["blue"], [96, 32, 112, 48], atol=0.01)
    assert len(samples["none"].labels) == 0
    with (out / "data.yaml").open("a") as file:
        file.write("val: images/held_out\n")
    assert run("--teacher", teacher, "--images", pictures, "--out", out) == 0
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] == "images/held_out", "it is kept"
    link = out / "images/train/a.png"
    assert link.is_symlink() and link.resolve() == (pictures / "a.png").resolve()


@pytest.fixture
def labelled(tmp_path) -> Path:
    """People drew the green square, a bit too large, and nothing else; red is not labelled."""
    root = tmp_path / "set"
    paint(root / "images/train/x.png", {(32, 64): GREEN, (160, 160): RED, (224, 32): GREEN})
    paint(root / "images/val/y.png", {(32, 64): GREEN})
    lines = {"train": f"1 {40 / SIDE} {72 / SIDE} {18 / SIDE} {18 / SIDE}\n", "val": ""}
    for split, text in lines.items():
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / ("x.txt" if split == "train" else "y.txt")).write_text(text)
    description = {
        "names": list(CLASSES),
        "labelled": ["green", "blue"],
        "train": "images/train",
        "val": "images/val",
    }
    (root / "data.yaml").write_text(yaml.safe_dump(description))
    return root / "data.yaml"


@pytest.mark.parametrize("only_unlabelled", [False, True])
def test_labels_of_people_are_kept(teacher, labelled, tmp_path, only_unlabelled):
    out = tmp_path / "taught"
    options = ["--only-unlabelled"] if only_unlabelled else []
    assert run("--teacher", teacher, "--data", labelled, "--out", out, *options) == 0
    (sample,) = open_split(out / "data.yaml", "train")
    rows = sorted(zip(sample.labels, sample.boxes.round().tolist(), strict=True))
    drawn, missed, red = [31, 63, 49, 81], [224, 32, 240, 48], [160, 160, 176, 176]
    found = [(0, red), (1, drawn)] + ([] if only_unlabelled else [(1, missed)])
    assert rows == found, "the teacher's box on the drawn one is dropped"
    certain = dict(zip(map(tuple, sample.boxes.round().tolist()), sample.confidence, strict=True))
    assert certain[tuple(drawn)] == 1 and certain[tuple(red)] < 1
    assert sample.unlabelled == frozenset(), "the teacher knows red"
    (held_out,) = open_split(out / "data.yaml", "val")
    assert held_out.unlabelled == {0}, "val is the original one"


def test_what_people_ignored_stays_ignored(teacher, labelled, tmp_path):
    """Else it would be background: an object that is wrong to find."""
    text = labelled.parent / "labels/train/x.txt"
    line = f"1 {232 / SIDE} {40 / SIDE} {16 / SIDE} {16 / SIDE} 0\n"
    text.write_text(text.read_text() + line)
    out = tmp_path / "taught"
    assert run("--teacher", teacher, "--data", labelled, "--out", out) == 0
    (sample,) = open_split(out / "data.yaml", "train")
    assert sample.ignored.round().tolist() == [[224, 32, 240, 48]]
    assert sorted(sample.labels) == [0, 1], "the teacher's box there is dropped"


def test_what_another_teacher_drew_stays_as_unsure_as_it_was(teacher, labelled, tmp_path):
    """A set that a second teacher completes: else guesses of the first would become certain."""
    text = labelled.parent / "labels/train/x.txt"
    text.write_text(f"{text.read_text().strip()} 0.4\n")
    out = tmp_path / "taught"
    assert run("--teacher", teacher, "--data", labelled, "--out", out) == 0
    (sample,) = open_split(out / "data.yaml", "train")
    sure = dict(zip(map(tuple, sample.boxes.round().tolist()), sample.confidence, strict=True))
    assert sure[31, 63, 49, 81] == pytest.approx(0.4)


def test_a_joined_set_is_labelled_once_and_keeps_what_is_measured(teacher, labelled, tmp_path):
    """Its pictures may be shown several times, and its sources have val and test."""
    joined, out = tmp_path / "joined.yaml", tmp_path / "taught"
    source = {"data": str(labelled), "classes": {"green": "tree", "red": "rose"}, "repeat": 3}
    content = {"names": ["rose", "tree", "sea"], "labelled": ["tree"], "sources": [source]}
    joined.write_text(yaml.safe_dump(content))
    mapping = ["--map", "green=tree", "red=rose", "blue=sea"]
    assert run("--teacher", teacher, "--data", joined, "--out", out, *mapping) == 0
    taught = open_split(out / "data.yaml", "train")
    assert [s.name for s in taught] == ["x"] and not taught.bad_files
    (held_out,) = open_split(out / "data.yaml", "val")
    assert held_out.unlabelled == {0, 2}
    joined.write_text(yaml.safe_dump({**content, "hold_out": 1}))
    other = tmp_path / "other"
    assert run("--teacher", teacher, "--data", joined, "--out", other, *mapping) == 1
    assert not other.exists()


def drawn(*boxes: list[int]) -> GroundTruth:
    return GroundTruth(np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes), int))


@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [
        ([0, 0, 100, 100], 0, True),
        ([45, 0, 145, 100], 0, True),  # IoU 0.38: badly placed
        ([80, 0, 180, 100], 0, False),  # 0.11: a neighbour
        ([10, 10, 40, 40], 0, True),  # a part of it
        ([45, 0, 145, 100], 1, False),
    ],
)
def test_one_object_gets_one_label(box, label, expected):
    found = np.array([box], np.float32)
    assert answers(found, np.array([label]), drawn([0, 0, 100, 100])).tolist() == [expected]


def test_each_object_is_answered_once():
    """Of two boxes at one object, the better one is the answer; the other may be a neighbour."""
    found = np.array([[40, 0, 140, 100], [5, 0, 105, 100]], np.float32)
    assert answers(found, np.zeros(2, int), drawn([0, 0, 100, 100])).tolist() == [False, True]
    none = np.zeros((0, 4), np.float32)
    assert answers(none, np.zeros(0, int), drawn([0, 0, 9, 9])).shape == (0,)
    assert not answers(found, np.zeros(2, int), drawn()).any()


def test_classes_are_mapped_by_name(teacher, pictures, tmp_path, capsys):
    out = tmp_path / "taught"
    arguments = ["--teacher", teacher, "--images", pictures, "--out", out]
    assert run(*arguments, "--map", "green=tree", "blue=sea") == 0
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == ["tree", "sea"]
    labels = {s.name: s.labels.tolist() for s in open_split(out / "data.yaml", "train")}
    assert labels == {"a": [0], "a~1": [1], "none": []}
    assert run(*arguments[:-1], tmp_path / "other", "--map", "violet=tree") == 1
    assert "the teacher has no class 'violet': it has red, green, blue" in capsys.readouterr().err


def test_an_interrupted_labelling_continues(teacher, pictures, tmp_path, monkeypatch, capsys):
    out = tmp_path / "taught"
    arguments = ["--teacher", teacher, "--images", pictures, "--out", out]
    seen: list[int] = []
    detect = teachers.OwnTeacher.detect

    def interrupted(self, image):
        seen.append(len(seen))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return detect(self, image)

    monkeypatch.setattr(teachers.OwnTeacher, "detect", interrupted)
    arguments += ["--threads", 1]  # the order of the pictures is known
    with pytest.raises(KeyboardInterrupt):
        run(*arguments)
    assert not (out / "data.yaml").exists(), "nothing pretends to be complete"
    assert run(*arguments) == 0
    assert len(seen) == 4, "one picture was labelled before, one twice begun"
    assert len(open_split(out / "data.yaml", "train")) == 3
    assert run(*arguments, "--score", 0.5) == 1
    assert "made with other settings: give a new --out" in capsys.readouterr().err


def test_what_a_killed_labelling_left_is_no_label(teacher, pictures, tmp_path):
    arguments = ["--teacher", teacher, "--images", pictures, "--out", tmp_path / "taught"]
    left = tmp_path / "taught/labels/train" / f"{UNFINISHED}x"
    left.mkdir(parents=True)
    (left / "a.txt").write_text("0 .5 .5 .2 .2")
    assert run(*arguments) == 0
    assert not open_split(tmp_path / "taught/data.yaml", "train").bad_files


def test_a_picture_that_takes_the_name_of_another_gets_labels_of_its_own(
    teacher, pictures, tmp_path
):
    out = tmp_path / "taught"
    arguments = ["--teacher", teacher, "--images", pictures, "--out", out]
    assert run(*arguments) == 0
    paint(pictures / "Before/a.bmp", {(64, 224): BLUE})  # it comes first
    assert run(*arguments) == 0
    found = open_split(out / "data.yaml", "train")
    assert not found.bad_files
    places = sorted(boxes.round().tolist() for sample in found for boxes in sample.boxes)
    assert places == [[32, 64, 48, 80], [64, 224, 80, 240], [96, 32, 112, 48], [160, 160, 176, 176]]
    assert {sample.name: len(sample.boxes) for sample in found} == {
        "a": 1, "a~1": 2, "a~2": 1, "none": 0,
    }  # fmt: skip


def test_labels_with_the_numbers_of_other_classes_are_not_gone_on_with(
    teacher, labelled, tmp_path, capsys
):
    arguments = ["--teacher", teacher, "--data", labelled, "--out", tmp_path / "taught"]
    assert run(*arguments) == 0
    content = yaml.safe_load(labelled.read_text())
    labelled.write_text(yaml.safe_dump({**content, "names": ["blue", "green", "red"]}))
    assert run(*arguments) == 1
    assert "made with other settings: give a new --out" in capsys.readouterr().err


def test_a_picture_that_people_have_labelled_anew_is_labelled_anew(teacher, labelled, tmp_path):
    out = tmp_path / "taught"
    arguments = ["--teacher", teacher, "--data", labelled, "--out", out]
    paint(labelled.parent / "images/train/z.png", {(96, 96): BLUE})
    (labelled.parent / "labels/train/z.txt").write_text("")
    assert run(*arguments) == 0
    made = {name: out / f"labels/train/{name}.txt" for name in "xz"}
    assert len(made["x"].read_text().splitlines()) == 3
    made["z"].write_text("2 .5 .5 .1 .1 .9")
    (labelled.parent / "labels/train/x.txt").write_text("")
    assert run(*arguments) == 0
    assert all(len(line.split()) == 6 for line in made["x"].read_text().splitlines())
    assert made["z"].read_text() == "2 .5 .5 .1 .1 .9", "it was not made anew"


def test_a_teacher_is_found_by_name_or_path(teacher, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPACT_YOLO_MODELS", str(teacher.parent))
    arguments = ["--images", pictures, "--out", tmp_path / "taught"]
    assert run("--teacher", teacher.stem, *arguments) == 0
    assert run("--teacher", teacher, *arguments) == 0, "the same teacher: it continues"
    for wrong, sentence in (
        ("nobody", "training.distill: there is no model 'nobody': give one of "),
        ("gone.onnx", "training.distill: there is no model file gone.onnx\n"),
        ("~no_user/x.onnx", "training.distill: the home folder of '~no_user/x.onnx' is not known"),
    ):
        assert run("--teacher", wrong, *arguments) == 1
        assert sentence in capsys.readouterr().err


def test_labels_do_not_depend_on_the_number_of_threads(teacher, pictures, tmp_path):
    for number in range(20):
        paint(pictures / f"{number}.png", {(16 * number, 160): RED, (160, 16 * number): GREEN})
    labels = []
    for threads in (1, 4):
        out = tmp_path / str(threads)
        arguments = ["--teacher", teacher, "--images", pictures, "--out", out]
        assert run(*arguments, "--threads", threads) == 0
        labels.append({path.name: path.read_text() for path in out.glob("labels/train/*.txt")})
    assert labels[0] == labels[1] and len(labels[0]) == 23
    assert all(labels[0][f"{number}.txt"].count("\n") == 2 for number in range(20) if number != 10)


def test_images_are_never_replaced_by_links(teacher, labelled, tmp_path, capsys):
    root = labelled.parent
    paint(root / "images/train/new.png", {})
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    for what in (["--images", root], ["--images", root / "images"], ["--data", labelled]):
        assert run("--teacher", teacher, *what, "--out", root) == 1
        assert "holds pictures to label (" in capsys.readouterr().err
    elsewhere = tmp_path / "pictures"
    paint(elsewhere / "a.png", {})
    assert run("--teacher", teacher, "--images", elsewhere, "--out", root) == 1
    assert "holds another data set: give a new --out" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_no_picture_gets_the_name_of_another(teacher, pictures, tmp_path):
    """Names that a first teacher gave are joined with a folder that has the same names again."""
    for name in ("a~1", "a~2", "more/a", "most/a"):
        paint(pictures / f"{name}.png", {(10 * len(name), 200): RED})
    out = tmp_path / "taught"
    assert run("--teacher", teacher, "--images", pictures, "--out", out) == 0
    links = sorted((out / "images/train").iterdir())
    assert [link.stem for link in links] == ["a", "a~1", "a~2", "a~3", "a~4", "a~5", "none"]
    assert {link.resolve() for link in links} == set(pictures.rglob("*.png"))


def test_links_of_the_new_data_set_are_not_labelled(teacher, pictures):
    arguments = ["--teacher", teacher, "--images", pictures, "--out", pictures / "taught"]
    for _ in range(2):
        assert run(*arguments) == 0
        assert len(open_split(pictures / "taught/data.yaml", "train")) == 3


def test_wrong_options_end_in_a_sentence(teacher, pictures, labelled, tmp_path, capsys):
    arguments = ["--teacher", teacher, "--out", tmp_path / "out"]
    (tmp_path / "no.onnx").write_bytes(b"")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASSES))
    for wrong, sentence in (
        (["--images", pictures, "--threads", -1], "--threads must be 0 or more"),
        (["--images", pictures, "--overlap", 7], "--overlap must be above 0, up to 1"),
        (["--data", labelled, "--classes", "sea"], "--classes goes with --images"),
        (["--images", pictures, "--overlap", 0.7], "they go with --data"),
        (["--images", pictures, "--only-unlabelled"], "they go with --data"),
        (["--images", pictures, "--teacher-classes", names], "has class names of its own"),
        (["--images", pictures, "--teacher", tmp_path / "no.onnx"], "no.onnx: "),
    ):
        assert run(*arguments, *wrong) == 1
        assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*arguments, "--images", pictures, "--map", "green")
    assert "'green' is not of the form" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*arguments, "--images", pictures, "--map", "red=a", "--map", "red=b")
    assert "'red' has two new names: 'a' and 'b'" in capsys.readouterr().err


def test_an_unreadable_image_is_left_out_and_named(teacher, pictures, tmp_path, capsys):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "taught"
    assert run("--teacher", teacher, "--images", pictures, "--out", out) == 0
    assert "broken.jpg" in capsys.readouterr().err
    assert len(open_split(out / "data.yaml", "train")) == 3


def write_yolox(path: Path, size: int = 64) -> Path:
    """A YOLOX export: a cell of 8 pixels is an object as large as itself, half a cell further.

    Its class is its brightest channel, its objectness 1 at stride 8 and 0.01 elsewhere.
    """
    nodes, rows = [], []
    for stride in (8, 16, 32):
        side = size // stride
        head = np.zeros((1, side * side, 5), np.float32)
        head[..., :2], head[..., 4] = 0.5, 1 if stride == 8 else 0.01
        shape = np.array([0, 3, -1], np.int64)
        rows += [numpy_helper.from_array(head, f"h{stride}")]
        rows += [numpy_helper.from_array(shape, f"s{stride}")]
        nodes += [
            helper.make_node(
                "AveragePool",
                ["images"],
                [f"m{stride}"],
                kernel_shape=[stride] * 2,
                strides=[stride] * 2,
            ),
            helper.make_node("Reshape", [f"m{stride}", f"s{stride}"], [f"f{stride}"]),
            helper.make_node("Transpose", [f"f{stride}"], [f"t{stride}"], perm=[0, 2, 1]),
            helper.make_node("Mul", [f"t{stride}", "unit"], [f"c{stride}"]),
            helper.make_node("Concat", [f"h{stride}", f"c{stride}"], [f"r{stride}"], axis=2),
        ]
    nodes.append(helper.make_node("Concat", ["r8", "r16", "r32"], ["output"], axis=1))
    rows.append(numpy_helper.from_array(np.float32(1 / 255), "unit"))
    count = sum((size // stride) ** 2 for stride in (8, 16, 32))
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, count, 8])],
        rows,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def test_a_yolox_export_can_teach(tmp_path):
    """BGR, not normalised, the picture top left: found where and what it is."""
    path = write_yolox(tmp_path / "yolox.onnx")
    teacher = open_teacher(path, 0.6, [], ["sea", "tree", "brick"])
    image = np.zeros((64, 128, 3), np.uint8)  # half as large in the input: the lower half is grey
    image[16:32, 96:112] = (0, 0, 255)
    image[32:48, 0:16] = (255, 0, 0)
    found = teacher.detect(image)
    rows = sorted(zip(found.labels.tolist(), found.boxes.round().tolist(), strict=True))
    assert rows == [(0, [96, 16, 112, 32]), (2, [0, 32, 16, 48])]
    np.testing.assert_allclose(found.scores, 1, atol=0.02)
    thin = teacher.detect(np.zeros((1, 4000, 3), np.uint8))
    assert len(thin) == 0


def test_a_yolox_export_needs_its_class_names(tmp_path, pictures, capsys):
    path = write_yolox(tmp_path / "yolox.onnx")
    names = tmp_path / "names.txt"
    names.write_text("sea\ntree\n")
    arguments = ["--teacher", path, "--images", pictures, "--out", tmp_path / "out"]
    assert run(*arguments, "--teacher-classes", names) == 1
    assert "knows 3 classes: give as many with --teacher-classes, not 2" in capsys.readouterr().err
    names.write_text("sea\n\ntree\nbrick\n")
    assert run(*arguments, "--teacher-classes", names) == 1
    assert "names.txt must have the name of a class on each line" in capsys.readouterr().err
    names.write_text("sea\ntree\nbrick\n")
    assert run(*arguments, "--teacher-classes", names, "--size", 416) == 1
    assert "takes images of 64 pixels only" in capsys.readouterr().err
    assert run(*arguments, "--teacher-classes", names) == 0


def test_yolox_rows_are_offsets_and_logarithms_in_cells():
    rows = np.zeros((64 + 16 + 4, 6), np.float32)
    rows[64 + 6] = (0.25, 0.5, np.log(3), np.log(0.5), 1, 1)  # stride 16, y 1, x 2
    box = decode_yolox(rows, 64, 64)[64 + 6]
    np.testing.assert_allclose(box, [36 - 24, 24 - 4, 36 + 24, 24 + 4], rtol=1e-6)
    with pytest.raises(ValueError, match="84 rows for 336 cells"):
        decode_yolox(rows, 128, 128)


def test_an_ensemble_averages_boxes_that_agree_and_lowers_the_score_of_others():
    def answer(*rows: tuple[float, float, int]) -> Detections:
        boxes = np.array([(x, 0, x + 10, 10) for x, _, _ in rows], np.float32).reshape(-1, 4)
        return Detections(
            boxes,
            np.array([score for _, score, _ in rows], np.float32),
            np.array([label for _, _, label in rows], np.int32),
        )

    fused = fuse([answer((0, 0.9, 0), (50, 0.6, 1)), answer((1, 0.6, 0)), Detections.empty()])
    assert fused.labels.tolist() == [0, 1]
    np.testing.assert_allclose(fused.scores, [0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(fused.boxes[0], [0.4, 0, 10.4, 10], rtol=1e-6)
    assert len(fuse([Detections.empty(), Detections.empty()])) == 0


@pytest.mark.parametrize(("single", "kept"), [((0.5, 0.2), True), ((0.5, 0.0), False)])
def test_the_least_score_is_that_of_the_ensemble(teacher, pictures, monkeypatch, single, kept):
    """A size that is less sure than the least score counts, and one that finds nothing too."""
    paint(pictures / "a.png", {(32, 64): GREEN})
    image = cv2.imread(str(pictures / "a.png"))[..., ::-1]
    ensemble = open_teacher(teacher, 0.3, [320, 640], [])
    for detector, score in zip(ensemble._detectors, single, strict=True):
        box = np.array([[32, 64, 48, 80]], np.float32)
        found = Detections(box, np.array([score], np.float32), np.array([1], np.int32))
        least = detector.selection.score_threshold
        answer = found[found.scores >= least]
        monkeypatch.setattr(detector, "detect", lambda *_, answer=answer: answer)
    assert [round(float(score), 2) for score in ensemble.detect(image).scores] == [0.35] * kept


def test_an_ensemble_of_sizes_runs(teacher, pictures, tmp_path):
    out = tmp_path / "taught"
    arguments = ["--teacher", teacher, "--images", pictures, "--out", out, "--size", 320, 640]
    assert run(*arguments, "--score", 0.2) == 0
    samples = {s.name: s for s in open_split(out / "data.yaml", "train")}
    assert "blue" in boxes_of(samples["a~1"])

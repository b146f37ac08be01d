# SPDX-License-Identifier: Apache-2.0
"""A training of a study goes on, or is finished, only with the weights and images it began with."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from drawn import write_set
from rich.console import Console

from compact_yolo_ros.model.sizes import Size
from training.data.dataset import open_split
from training.data.digest import digest_of
from training.data.sample import Sample
from training.detectors.variant import Variant
from training.loop.checkpoint import save_checkpoint
from training.loop.trainer import Trainer
from training.studies import ablation, design_search, kernel_search, layer_types, transfer
from training.studies.member import Member, Result
from training.studies.report import Report
from training.studies.study import Effort, StoppedError, Study
from training.weights.backbone_file import BackboneWeights, write_backbone

EFFORT = Effort(
    "cpu_small",
    ("phases=[{epochs: 2, sizes: 32}]", "batch_size=4", "evaluation.size=160",
     "schedule.warmup_steps=1", "precision=32-true"),
)  # fmt: skip
ONE = Member("one", Variant.parse("{name: yolov4_tiny, width: 0.1}"))
IMAGES = "is of a training on other images, labels or classes: give another --out"


def study_of(data: Path, out: Path) -> Study:
    def report(results: Sequence[Result]) -> Report:
        return Report("One", ["name"], [[result.name] for result in results])

    console = Console(quiet=True)
    return Study("s", data, out, EFFORT, report, console, (0,), "cpu", workers=0)


def other_pictures(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        image = cv2.imread(str(path))
        assert image is not None and cv2.imwrite(str(path), 255 - image)


def corrected_labels(folder: Path) -> None:
    path = next(path for path in folder.rglob("labels/**/*.txt") if path.read_text().strip())
    path.write_text(path.read_text().replace("0.", "0.0", 1))


def other_classes(folder: Path) -> None:
    described = yaml.safe_load((folder / "data.yaml").read_text())
    described["names"] = [f"{name}s" for name in described["names"]]
    (folder / "data.yaml").write_text(yaml.safe_dump(described))


@pytest.fixture
def data(shapes: list[Sample], tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", shapes)


def cut_off(data: Path, out: Path, member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train an epoch of a member, as if a signal came then."""

    def stopped(trainer: Trainer, folder: object, *_: object) -> bool:
        trainer.train_epoch(lambda _: False)
        folder.save_last(trainer.state())  # type: ignore[attr-defined]
        return False

    with monkeypatch.context() as patched:
        patched.setattr("training.studies.study.run", stopped)
        with pytest.raises(StoppedError):
            study_of(data, out).train(member)


def test_a_training_that_was_cut_off_goes_on_from_the_same_weights_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with_weights = replace(ONE, begin=lambda _: None, origin="w.pt (SHA-256 12)")
    cut_off(data, out, with_weights, monkeypatch)
    with pytest.raises(ValueError, match=r"one/last.pt is .* that began with w.pt \(SHA-256 12\), n"
                       "ot with random weights: give another --out"):  # fmt: skip
        study_of(data, out).train(ONE)
    assert study_of(data, out).train(with_weights).origin == "w.pt (SHA-256 12)"


@pytest.mark.parametrize("change", [other_pictures, corrected_labels, other_classes])
def test_neither_a_begun_nor_a_finished_training_is_taken_for_one_of_other_data(
    change: Callable[[Path], None], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finished, new = tmp_path / "begun", tmp_path / "finished", tmp_path / "new/set"
    cut_off(data, begun, ONE, monkeypatch)
    study_of(data, finished).train(ONE)
    shutil.copytree(data.parent, new)
    same = study_of(new / "data.yaml", finished)
    same.check_folder()
    assert same.finished(ONE, 0), "the data set has only moved"
    change(new)
    for out, file in ((begun, "last.pt"), (finished, "result.json")):
        with pytest.raises(ValueError, match=f"one/{file} {IMAGES}"):
            study_of(new / "data.yaml", out).train(ONE)
    with pytest.raises(ValueError, match="results.json is of other images, labels or classes: giv"):
        study_of(new / "data.yaml", finished).check_folder()


def test_the_digest_of_a_set_is_that_of_its_content(data: Path) -> None:
    found = digest_of(open_split(data, "train"), open_split(data, "val"))
    assert found == digest_of(open_split(data, "train", "none"), open_split(data, "val", "none"))
    assert found != digest_of(open_split(data, "val"), open_split(data, "train"))
    assert found != digest_of(open_split(data, "train", most=5), open_split(data, "val"))
    halved = open_split(data, "train", least=Size(40, 40))
    assert halved.entries[0].image.width == 48
    assert found == digest_of(halved, open_split(data, "val")), "views of another size"


def test_a_description_in_the_current_folder_has_the_folders_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    assert study_of(Path("data.yaml"), tmp_path).facts["data"].startswith("set, 16 images")


def test_weights_in_a_file_of_the_same_name_are_other_weights(tmp_path: Path) -> None:
    def checkpoint(detector: str, seed: int) -> str:
        torch.manual_seed(seed)
        variant = Variant.parse(detector)
        content = {"detector": variant.to_settings(), "classes": ["a"], "recipe": {}}
        state = variant.build(1).state_dict()
        save_checkpoint(tmp_path / "w.pt", content | {"average": state})
        return str(tmp_path / "w.pt")

    def backbone(seed: int) -> Path:
        torch.manual_seed(seed)
        state = transfer.complete("yolo_ret_m075").build(2).backbone.state_dict()
        write_backbone(tmp_path / "b.pt", BackboneWeights("b", False, False, state))
        return tmp_path / "b.pt"

    def designs(seed: int) -> str:
        search = object.__new__(design_search.Search)
        search.options = Namespace(start=checkpoint("yolo_nano", seed), short=1)
        search.stages, search.begin = design_search.STAGES, lambda _: None
        return search._member("a", Variant.parse("yolo_nano")).origin

    found: list[Callable[[int], str]] = [
        lambda seed: kernel_search.members(["35353"], checkpoint("micro_yolo", seed))[0].origin,
        lambda seed: layer_types.members((3,), ("1",), checkpoint("micro_yolo", seed))[0].origin,
        designs,
        lambda seed: next(ablation.members({"a": ONE.detector}, [backbone(seed)])).origin,
        lambda seed: next(
            transfer.members(transfer.complete("yolo_ret_m075"), [3], backbone(seed))
        ).origin,
    ]  # fmt: skip
    for origin in found:
        first, second, again = origin(0), origin(1), origin(0)
        assert first != second and first == again
        assert ".pt (SHA-256 " in first and str(tmp_path) not in first


def test_the_result_says_what_it_is_of(data: Path, tmp_path: Path) -> None:
    study = study_of(data, tmp_path / "out")
    study.train(ONE)
    written = json.loads((tmp_path / "out/one/result.json").read_text())
    assert written["data"] == study.digest
    assert f"digest of the data: {study.digest}" in (tmp_path / "out/results.md").read_text()

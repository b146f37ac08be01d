# SPDX-License-Identifier: Apache-2.0
"""Several processes of one study: each knows what the others have finished, one reports it."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from drawn import write_set
from rich.console import Console

from compact_yolo_ros.support.plain_values import to_plain
from training.data.sample import Sample
from training.loop.recipe import Recipe
from training.studies import kernel_search, parallel
from training.studies.member import Member, Result
from training.studies.study import Effort, Study

CURVE = [(1, 0.5), (2, 0.6)]


@pytest.fixture
def study(shapes: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(Study, "_step_seconds", lambda *_: 1.0)
    effort = Effort("cpu_small", ("phases=[{epochs: 2, sizes: 32}]", "evaluation.size=160"))
    data = write_set(tmp_path / "set", shapes)
    found = Study("kernel_search", data, tmp_path / "out", effort,
                  lambda results: kernel_search.report(results, Namespace()),
                  Console(quiet=True), (0,), "cpu", workers=0)  # fmt: skip
    found.out.mkdir()
    return found


def finish(study: Study, member: Member, stopped: bool = False) -> None:
    """Write the result of a training, as another process does."""
    recipe: Recipe = study.recipe(member, 0)
    found = Result(member.name, str(member.detector), 0, 1, 0.1, 16, 2, 1.0, {"AP50": 0.6}, CURVE,
                   to_plain(recipe.to_dict()), member.origin, dict(member.facts), study.digest,
                   stopped)  # fmt: skip
    folder = study.folder(member.name, 0)
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(to_plain(asdict(found))))


def reported(study: Study) -> list[str]:
    results = json.loads((study.out / "results.json").read_text())["results"]
    return [result["name"] for result in results]


BEHIND = Namespace(history=[{"epoch": 1, "AP50": 0.4}])
AHEAD = Namespace(history=[{"epoch": 1, "AP50": 0.6}])


@pytest.fixture
def searched(study: Study, monkeypatch: pytest.MonkeyPatch) -> list[Member]:
    """Six kernels of a search that stops early; none is trained."""
    given: list[Member] = []
    monkeypatch.setattr(kernel_search, "train_all", lambda _, members, __: given.extend(members))
    kernels = ["33333", "33335", "33353", "33355", "33533", "35353"]
    kernel_search.search(study, Namespace(kernels=kernels, start="", early_stop=True))
    return given


def test_a_part_stops_what_is_behind_the_trainings_of_the_other_parts(
    study: Study, searched: list[Member]
) -> None:
    *others, own = searched
    assert own.hopeless
    for member in others[:4]:
        finish(study, member)
    assert not own.hopeless(BEHIND), "too few to compare with"  # type: ignore[arg-type]
    finish(study, others[4], stopped=True)
    assert own.hopeless(BEHIND) and not own.hopeless(AHEAD)  # type: ignore[arg-type]


def test_a_training_goes_on_beside_a_folder_of_another_study(
    study: Study, searched: list[Member]
) -> None:
    *others, own = searched
    assert own.hopeless
    for member in others:
        finish(study, member)
    results = [study.folder(member.name, 0) / "result.json" for member in others]
    content = json.loads(results[0].read_text())
    results[0].write_text(json.dumps(content | {"data": "other"}))
    assert not own.hopeless(BEHIND), "too few to compare with"  # type: ignore[arg-type]
    results[0].write_text(json.dumps(content))
    assert own.hopeless(BEHIND)  # type: ignore[arg-type]
    for path in results:
        path.write_text("[1")
    assert own.hopeless(BEHIND), "a result was read again"  # type: ignore[arg-type]


class Part:
    """A process of a part that finishes its member at the second look."""

    def __init__(self, study: Study, member: Member) -> None:
        self.study, self.member, self.looks = study, member, 0

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks == 2:
            finish(self.study, self.member)
        return 0 if self.looks > 3 else None

    def wait(self) -> int:
        return 0

    def send_signal(self, _: int) -> None:
        raise ProcessLookupError


def test_the_report_has_what_all_parts_have_finished_and_never_less(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = kernel_search.members(["35353", "33333"])
    waiting, seen = list(members), []

    def look(_: float) -> None:
        seen.append(reported(study) if (study.out / "results.json").exists() else [])

    def start(command: Sequence[str]) -> Part:
        return Part(study, waiting.pop(0))

    monkeypatch.setattr(parallel, "time", Namespace(sleep=look))
    monkeypatch.setattr(parallel, "subprocess", Namespace(Popen=start))
    parallel.train_all(study, members, Namespace(part="", plan=False, parallel=2))
    assert [names for n, names in enumerate(seen) if names not in seen[:n]] == [
        [], ["k35353"], ["k35353", "k33333"]
    ]  # fmt: skip
    assert reported(study) == ["k35353", "k33333"]


@pytest.fixture
def with_foreign(study: Study, request: pytest.FixtureRequest) -> list[Member]:
    """Two trainings that are finished, and between them a folder of something else."""
    members = kernel_search.members(["35353", "33355", "33333"])
    for member in members:
        finish(study, member)
    path = study.folder(members[1].name, 0) / "result.json"
    if request.param == "folder":
        path.unlink()
        path.mkdir()
    elif isinstance(request.param, str):
        path.write_text(request.param)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | request.param))
    return members


@pytest.mark.parametrize(
    ("with_foreign", "says"),
    [
        ({"data": "other"}, "is of a training on other images"),
        ({"recipe": {}}, "is of a training with other settings"),
        ({"figures": {}}, "is damaged (it has no figure 'AP50'): move it away to go on"),
        ("[1", "is damaged (it is not JSON"),
        ("folder", "is damaged (Is a directory): move it away to go on"),
    ],
    ids=["data", "recipe", "figures", "cut", "folder"],
    indirect=["with_foreign"],
)
def test_beside_a_foreign_folder_the_others_are_gathered(
    study: Study, with_foreign: list[Member], says: str
) -> None:
    study.console = Console(file=(told := StringIO()), width=1000)
    study.gather(with_foreign)
    assert reported(study) == ["k35353", "k33333"]
    study.gather(with_foreign)
    (line,) = told.getvalue().splitlines()
    assert "k33355/result.json" in line and says in line
    with pytest.raises(ValueError, match=re.escape(says)):
        study.train(with_foreign[1])


def test_a_part_writes_no_report(study: Study) -> None:
    members = kernel_search.members(["35353", "33333"])
    finish(study, members[1])
    parallel.train_all(study, members, Namespace(part="1/2", plan=False, parallel=2))
    assert [result.name for result in study.results] == ["k33333"]
    assert not (study.out / "results.json").exists()

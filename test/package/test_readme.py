# SPDX-License-Identifier: Apache-2.0
"""README.md and config/detector.yaml say what the code says; `make docs` makes it so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import yaml
from skimage import data

from compact_yolo_ros.ros.detector.parameters import DETECTOR_PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GENERATE = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "generate.py")))


def test_the_tables_are_those_of_the_code() -> None:
    assert GENERATE.readme(README) == README, "run `make docs`"


def test_the_parameter_file_is_that_of_the_code() -> None:
    text = (ROOT / "config" / "detector.yaml").read_text()
    assert text == GENERATE.detector_yaml(), "run `make docs`"
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    defaults = {spec.name: spec.default for spec in DETECTOR_PARAMETERS}
    assert values == {**defaults, "autostart": True}  # a copy of it must start, too


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    headings = {
        "#" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target in headings
        else:
            assert (ROOT / target).is_file(), target


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in re.findall(r"python (\S+\.py)", README):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r"python -m (\S+)", README):
        assert (ROOT / f"{module.rstrip('`').replace('.', '/')}.py").is_file(), module


def test_the_python_example_finds_the_astronaut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("street.jpg", data.astronaut()[..., ::-1])
    exec(example, {})
    assert "person" in capsys.readouterr().out

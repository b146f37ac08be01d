# SPDX-License-Identifier: Apache-2.0
"""What contributors and continuous integration are told agrees with the repository."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
POLICIES = ("SECURITY.md", "QUALITY_DECLARATION.md", "CODE_OF_CONDUCT.md", "docs/releasing.md")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_continuous_integration_runs_every_supported_python() -> None:
    jobs = read(GITHUB / "workflows" / "test.yml")["jobs"]
    bootstrap = runpy.run_path(str(ROOT / "environment" / "bootstrap.py"))
    (_, oldest), (_, newest) = bootstrap["OLDEST"], bootstrap["NEWEST"]
    pythons = [f"3.{minor}" for minor in range(oldest, newest + 1)]
    assert jobs["wheels"]["strategy"]["matrix"]["python"] == pythons
    scripts = [step["run"] for step in jobs["wheels"]["steps"] if "run" in step]
    assert scripts == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()


def test_continuous_integration_builds_this_package_with_colcon() -> None:
    jobs = read(GITHUB / "workflows" / "test.yml")["jobs"]
    commands = " ".join(step.get("run", "") for step in jobs["robot"]["steps"])
    (name,) = re.findall(r"<name>(\w+)</name>", (ROOT / "package.xml").read_text())
    assert re.findall(r"--packages-select (\w+)", commands) == [name, name]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_forms_have_what_github_demands(form: Path) -> None:
    content = read(form)
    assert content["name"] and content["description"]
    fields = [item for item in content["body"] if item["type"] != "markdown"]
    names = [item["id"] for item in fields]
    assert len(names) == len(set(names)) and all(item["attributes"]["label"] for item in fields)


@pytest.mark.parametrize("policy", POLICIES)
def test_paths_in_policies_exist(policy: str) -> None:
    for path in re.findall(
        r"`((?:compact_yolo_ros|test|training)/[\w./]*)`", (ROOT / policy).read_text()
    ):
        assert (ROOT / path).exists(), path


def test_the_floor_of_coverage_is_the_stated_one() -> None:
    (floor,) = re.findall(r"--cov-fail-under=(\d+)", (ROOT / "Makefile").read_text())
    assert f"below {floor} % of lines" in (ROOT / "QUALITY_DECLARATION.md").read_text()

# SPDX-License-Identifier: Apache-2.0
"""What the documents say exists and agrees with the code; `make docs` regenerates the tables."""

from __future__ import annotations

import os
import pkgutil
import re
import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import yaml
from skimage import data

from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GENERATE = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "generate.py")))
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "training/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", GENERATE.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_code(path: Path) -> None:
    assert GENERATE.document(path) == path.read_text(), "run `make docs`"


def test_the_parameter_file_is_that_of_the_code() -> None:
    text = (ROOT / "config" / "detector.yaml").read_text()
    assert text == GENERATE.detector_yaml(), "run `make docs`"
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    defaults = {spec.name: spec.default for spec in DETECTOR_PARAMETERS}
    assert values == {**defaults, "autostart": True}  # a copy of it must start, too


def test_the_rights_of_a_secured_node_are_those_of_the_code() -> None:
    assert GENERATE.SROS2_POLICY.read_text() == GENERATE.sros2_policy(), "run `make docs`"


def test_make_docs_finds_the_code_of_this_folder() -> None:
    """The picture needs training/, which is not installed."""
    pytest.importorskip("grimp")
    lines = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True).stdout
    (line,) = (line for line in lines.splitlines() if line.endswith("docs/architecture.py"))
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(line, shell=True, cwd=ROOT, env=alone, check=True)


def test_the_picture_of_the_rooms_is_that_of_the_code() -> None:
    pytest.importorskip("grimp")
    drawing = runpy.run_path(str(ROOT / "docs" / "architecture.py"))["drawing"]
    assert drawing() == (ROOT / "docs" / "architecture.svg").read_text(), "run `make docs`"


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_order_of_the_rooms_is_that_of_the_contracts(document: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (layers,) = re.findall(r"^layers = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    order = re.findall(r'"(\w+)"', layers)
    names = re.findall(r"`(\w+)`", (ROOT / document).read_text().split("Imports")[1])
    assert names[: len(order)] == order


def anchors(path: Path) -> set[str]:
    """The headings of a document, as GitHub names them in links."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        name, _, anchor = link.partition("#")
        if name.startswith("https:"):
            continue
        target = path.parent / name if name else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ +|\bor )make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r"-m (training[\w.]*|compact_yolo_ros[\w.]*)", text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_of_the_code_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for statement in re.findall(
        r"^ *(from (?:compact_yolo_ros|training)\b.* import .*)$", text, re.M
    ):
        exec(statement, {})
    for name in re.findall(r"`(compact_yolo_ros\.[\w.]+)`", text):
        pkgutil.resolve_name(name)


def test_the_site_has_every_page_once() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = "\n".join(re.findall(r"```{toctree}(.*?)```", index, re.DOTALL))
    pages = re.findall(r"^([a-z_]+)$", listed, re.MULTILINE)
    written = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert sorted(pages) == sorted(written)


def test_texts_from_elsewhere_are_where_the_site_takes_them() -> None:
    outside = runpy.run_path(str(ROOT / "docs" / "conf.py"))["OUTSIDE"]
    for page, file in outside.items():
        assert f"(../{file})" in (ROOT / "docs" / f"{page}.md").read_text()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    python = ROOT / ".build" / "docs-venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("`make docs` installs Sphinx")
    command = [python, "-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path]
    subprocess.run(command, check=True)
    cards = (tmp_path / "model_cards.html").read_text()
    assert all(path.stem in cards for path in (ROOT / "models").glob("*.md"))


SCRIPTS = sorted(path.name for path in (ROOT / "docs").glob("*.py") if path.name != "conf.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_of_the_pictures_find_what_they_import(script: str) -> None:
    pytest.importorskip("grimp")
    assert callable(runpy.run_path(str(ROOT / "docs" / script))["main"])


RESULTS = {"out", "runs"}
"""Folders that commands of the documents make: what is named in them need not be there."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_the_repository_exist(document: str) -> None:
    """A path in backticks is relative to the repository, the package or the document."""
    text = (ROOT / document).read_text()
    folders = (ROOT, ROOT / "compact_yolo_ros", (ROOT / document).parent)
    names = {path.name for base in folders for path in base.iterdir()} - RESULTS
    folders_named = "|".join(sorted(names))
    for path in re.findall(rf"`((?:{folders_named})/[\w./]*(?:/|\.py|\.md|\.yaml))`", text):
        assert any((folder / path).exists() for folder in folders), path
    folder = r"(?<![\w/])(?:config|docs|test|training)"
    for path in re.findall(rf"{folder}/[\w./]+\.(?:py|xml|yaml)\b", text):
        assert (ROOT / path).exists(), path


def test_troubleshooting_quotes_the_messages_of_the_code() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "compact_yolo_ros").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # sentences that go on in the next line
    seen = (ROOT / "docs" / "troubleshooting.md").read_text().split("| What you see |")[1]
    quotes = re.findall(r"^\| `(.+?)` \|", seen, re.MULTILINE)
    assert quotes
    for quote in quotes:
        for part in quote.split("..."):
            assert part.strip(" '") in code, quote


def test_the_unit_of_systemd_waits_for_the_network_and_comes_back() -> None:
    (text,) = re.findall(r"```ini\n(.*?)```", (ROOT / "docs/stack.md").read_text(), re.DOTALL)
    unit = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    # After alone orders the two, and starts neither.
    assert unit["Wants"] == unit["After"] == "network-online.target"
    # launch ends with 0 also when a node of it has crashed
    assert unit["Restart"] == "always" and "ros2 launch" in unit["ExecStart"]


def test_the_hooks_before_a_commit_are_the_linters_of_make_lint() -> None:
    makefile = (ROOT / "Makefile").read_text()
    rules = dict(re.findall(r"^(\w+):.*\n((?:\t.*\n)*)", makefile, re.MULTILINE))
    assert re.search(r"^lint: types style ##", makefile, re.MULTILINE)
    linters = re.findall(
        r"\$\(VENV\)/([\w-]+(?: (?:check|format))?)", rules["style"] + rules["types"]
    )
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    for entry, linter in zip(sorted(hooks), sorted(linters), strict=True):
        assert entry.startswith(f".venv/bin/{linter}"), entry


def test_the_single_test_of_the_example_is_one() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    ((file, word),) = re.findall(r"bin/pytest (test/\S+\.py) -k (\w+)", text)
    assert re.search(rf"^def test_\w*{word}", (ROOT / file).read_text(), re.MULTILINE)


def test_the_pytorch_for_a_gpu_is_the_one_that_the_tests_have() -> None:
    locked = (ROOT / "environment" / "requirements" / "torch.txt").read_text()
    advised = re.findall(r"pip install .*(torch==\S+)", (ROOT / "training/README.md").read_text())
    assert advised == re.findall(r"^(torch==\S+)", locked, re.MULTILINE)


def test_the_sizes_of_the_model_files_are_those_at_the_top_of_the_readme() -> None:
    megabytes = [path.stat().st_size / 1e6 for path in (ROOT / "models").glob("*.onnx")]
    (stated,) = re.findall(r"Model files of ([\d.]+) to ([\d.]+) MB", README)
    assert stated == (f"{min(megabytes):.1f}", f"{max(megabytes):.0f}")


def test_the_python_example_finds_the_astronaut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("street.jpg", data.astronaut()[..., ::-1])
    exec(example, {})
    assert "person" in capsys.readouterr().out

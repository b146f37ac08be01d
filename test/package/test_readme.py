# SPDX-License-Identifier: Apache-2.0
"""The examples of README.md and docs/own_data.md run as written, outside the environment."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import cv2
import pytest
from drawn_sets import draw_image, write_yolo

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
OWN_DATA = (ROOT / "docs" / "own_data.md").read_text()
COMMANDS = Path(sys.prefix) / "bin"
BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
SHORT = shlex.split(
    "--set phases.0.epochs=1 --set phases.1.epochs=1 --set phases.0.sizes=64"
    " --set phases.1.sizes=64 --set batch_size=2 --set evaluation.size=160 --workers 0 --threads 1"
)


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    """What a command prints; it must end with code 0."""
    done = subprocess.run(
        command, cwd=folder, env={**BARE, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def python_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", python_examples())
@pytest.mark.parametrize("source", [True, False], ids=["source tree", "installed"])
def test_python_examples(tmp_path: Path, code: str, source: bool) -> None:
    sheet = cv2.imread(str(ROOT / "models" / "yolo_ret_m075.webp"))
    cv2.imwrite(str(tmp_path / "street.jpg"), sheet)
    variables = {"PYTHONPATH": str(ROOT)} if source else {}
    printed = run(tmp_path, COMMANDS / "python", "-c", code, **variables)
    assert re.search(r"^(person|car|bus|truck|motorbike) 0\.\d+ \[", printed, re.MULTILINE)


def training_commands() -> list[list[str]]:
    """The commands of docs/own_data.md, in order."""
    lines = OWN_DATA.replace("\\\n", " ").splitlines()
    return [
        shlex.split(line) for line in lines if line.startswith(("    .venv/bin/", "    make demo"))
    ]


def test_the_training_commands_are_all_here() -> None:
    names = [command[2] if command[0] != "make" else "demo" for command in training_commands()]
    modules = ("data.check", "train", "export", "demo", "evaluate")
    assert names == [name if name == "demo" else f"training.{name}" for name in modules]


@pytest.mark.slow
def test_training_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pictures to a model file, with a training cut short; in this process: it is faster."""
    monkeypatch.chdir(tmp_path)
    labels = {f"{n}": f"{n % 2} 0.5 0.4 0.3 0.4\n" for n in range(4)}
    for split in ("train", "val"):
        write_yolo(tmp_path / "my_set", labels, ["ball", "robot"], split)
    for number, path in enumerate(sorted((tmp_path / "my_set/images/val").iterdir())):
        draw_image(path, 10 + number)  # other pictures than those of train
    (tmp_path / "my_set" / "data.yaml").write_text(yaml_of_the_page())
    for name in ("models", "training"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in training_commands():
        if command[0] == "make":
            continue
        more = SHORT if command[2] == "training.train" else []
        monkeypatch.setattr(sys, "argv", [command[2], *command[3:], *more])
        ended_with: object = 0
        try:
            ended_with = import_module(command[2]).main()
        except SystemExit as end:
            ended_with = end.code
        assert not ended_with, command
    assert "AP" in (tmp_path / "report.html").read_text()
    values = dict(word.split("=") for word in training_commands()[3][2:])
    assert values.keys() == {"MODEL", "VIDEO"}
    assert all((tmp_path / value).exists() for value in values.values())


def yaml_of_the_page() -> str:
    found = re.search(r"    names: \[ball, robot\]\n    train: .*\n    val: .*\n", OWN_DATA)
    assert found is not None
    return found[0].replace("    ", "")

# SPDX-License-Identifier: Apache-2.0
"""What Docker's builds get: all that the package is made of, and no environments or results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTENT = """
import json
from distutils.core import run_setup
made = run_setup("setup.py", stop_after="init")
print(json.dumps([made.packages, made.package_data, made.data_files]))
"""


def kept() -> set[str]:
    """Names in the repository's folder that .dockerignore lets through."""
    first, *patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert first == "*", "what is not named is left out"
    return {pattern[1:] for pattern in patterns if pattern.startswith("!")}


def content_of(folder: Path) -> object:
    command = [sys.executable, "-c", f"import setuptools\n{CONTENT}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_is_built_from_it_as_from_the_whole_repository(tmp_path: Path) -> None:
    for name in kept():
        assert (ROOT / name).exists()
        (tmp_path / name).symlink_to(ROOT / name)
    assert content_of(tmp_path) == content_of(ROOT)


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.gpu"])
def test_every_file_that_a_dockerfile_copies_is_there(file: str) -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "docker" / file).read_text(), re.MULTILINE)
    paths = [path for line in copied for path in line.split() if path != "."]
    assert paths
    assert all((ROOT / path).is_file() and Path(path).parts[0] in kept() for path in paths)


def test_environments_and_results_stay_outside() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not kept() & {name.strip("/") for name in ignored}
    assert not kept() & {".git", "test", "training"}

# SPDX-License-Identifier: Apache-2.0
"""docs/install.md's lines for pip: they keep the modules that apt has installed working."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

from compact_yolo_ros.support import pip

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "config" / "pip_constraints.txt"
APT = {"3.10": "1.21.5", "3.11": "1.24.2", "3.12": "1.26.4"}
"""NumPy of Ubuntu 22.04, Debian 12 and Ubuntu 24.04, by their Python."""
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


FINDS = """
import sys, cv2
sys.path.insert(0, sys.argv[1])
from compact_yolo_ros import Detector
detector = Detector.open("yolo_ret_m075")
found = detector.detect(cv2.imread("street.webp"))
print(cv2.__version__, {detector.card.classes[label] for label in found.labels})
"""


def lines_of_install() -> list[str]:
    text = (ROOT / "docs" / "install.md").read_text()
    return re.findall(r"^    (?:\S+=\S+ )?(pip install .*)$", text, re.MULTILINE)


def numpy_for(python: str) -> list[Requirement]:
    lines = CONSTRAINTS.read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    return [each for each in requirements if each.marker and each.marker.evaluate(environment)]


@pytest.mark.parametrize("python", APT)
def test_numpy_stays_one_that_apts_modules_run_with(python: str) -> None:
    (numpy,) = numpy_for(python)
    assert numpy.specifier.contains(APT[python])
    assert not numpy.specifier.contains("2.0.0")


def test_later_pythons_take_what_their_distribution_has() -> None:
    assert numpy_for("3.13") == []


def test_every_line_for_pip_has_the_constraints() -> None:
    assert lines_of_install()
    for line in lines_of_install():
        assert "-c src/compact_yolo_ros/config/pip_constraints.txt" in line


def test_no_sentence_advises_a_pip_that_replaces_numpy() -> None:
    """Of pycuda's dependencies, none is NumPy; the training has an environment of its own."""
    for path in (ROOT / "compact_yolo_ros").rglob("*.py"):
        packages = re.findall(r"pip +[\"f\s]*install ([a-z][\w-]+)", path.read_text())
        assert set(packages) <= {"pycuda"}, path


@pytest.mark.parametrize("page", ["bags", "adopt", "power", "stack", "troubleshooting"])
def test_the_manuals_give_pip_the_constraints(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    for words in re.findall(r"pip install\s+(\S+\s+\S+)", text):
        assert words.split() == ["-c", "src/compact_yolo_ros/config/pip_constraints.txt"]


def dependencies() -> list[str]:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    return [each.text or "" for each in package if each.tag.endswith("depend")]


def test_every_interface_package_that_is_imported_is_a_dependency() -> None:
    """But for those that are asked for only where a parameter wants them."""
    interfaces = r"^\s*(?:from|import) (\w+_msgs|\w+_interfaces|std_srvs)\b"
    texts = [path.read_text() for path in (ROOT / "compact_yolo_ros").rglob("*.py")]
    imported = {name for text in texts for name in re.findall(interfaces, text, re.MULTILINE)}
    assert len(imported) > 5
    assert imported - set(dependencies()) == {"foxglove_msgs"}


def test_rosdep_is_asked_for_what_apt_has() -> None:
    """rosdep ends at a key of pip where the Python is externally managed."""
    keys = dependencies()
    assert keys
    assert not [key for key in keys if key.endswith("-pip")]


def test_the_line_that_is_advised_is_that_of_the_documents() -> None:
    assert shlex.split(pip.pip_line("onnx")) == ["pip", "install", "-c", str(CONSTRAINTS), "onnx"]


def test_outside_an_environment_a_managed_python_gets_one_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert pip.pip_line("onnx").startswith("pip install")
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert pip.pip_line("onnx").startswith("in a virtual environment (docs/install.md): pip")


def python_310() -> str | None:
    found = [str(path) for path in sorted(PYENV.glob("versions/3.10.*/bin/python"))]
    return found[-1] if found else shutil.which("python3.10")  # not pyenv's shim


@pytest.mark.slow
@pytest.mark.skipif(
    "COMPACT_YOLO_TEST_PIP" not in os.environ, reason="downloads: set COMPACT_YOLO_TEST_PIP=1"
)
@pytest.mark.skipif(python_310() is None, reason="needs Python 3.10, that of Ubuntu 22.04")
def test_the_modules_of_ubuntu_22_04_survive(tmp_path: Path) -> None:
    """NumPy 1.21.5, OpenCV 4.5.4, then the line for ONNX Runtime: the detector finds a person."""
    venv = tmp_path / "robot"

    def run(*command: str | Path) -> str:
        bare = {"PATH": f"{venv / 'bin'}:/usr/bin:/bin", "HOME": str(Path.home())}
        done = subprocess.run(
            command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    run(str(python_310()), "-m", "venv", venv)
    run(venv / "bin/pip", "install", "-q", "PyYAML", "rich", "numpy==1.21.5")
    run(venv / "bin/pip", "install", "-q", "--no-deps", "opencv-python-headless==4.5.4.60")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "compact_yolo_ros").symlink_to(ROOT)
    (line,) = [line for line in lines_of_install() if line.endswith(" onnxruntime")]
    run(*shlex.split(f"{venv}/bin/{line} -q"))
    shutil.copy(ROOT / "models" / "yolo_ret_m075.webp", tmp_path / "street.webp")
    printed = run(venv / "bin/python", "-W", "error", "-c", FINDS, ROOT)
    assert printed.startswith("4.5.4 ")
    assert "person" in printed

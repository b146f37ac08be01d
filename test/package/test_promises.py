# SPDX-License-Identifier: Apache-2.0
"""What CONTRIBUTING.md promises: a detector, a backend, a power source or a storage format is one
new file and one line in a table. Each is added to a copy of the repository, and the tools are run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_sets import write_yolo

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("compact_yolo_ros", "training", "config", "docs", "launch", "models")
FILES = ("README.md", "package.xml")

DETECTOR = re.findall(
    r"```python\n# pocket.py, in training/detectors/\n(.*?)```",
    (ROOT / "training" / "README.md").read_text(),
    re.DOTALL,
)[0]

BACKEND = '''
"""Runs networks by having somebody else run them."""

from compact_yolo_ros.backends import onnxruntime
from compact_yolo_ros.backends.backend import Opened
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.libraries import Library, imported

ABACUS = Library("Abacus", "colorsys", "abacus", "counting by hand", install="apt install abacus")


class AbacusBackend(onnxruntime.OnnxRuntimeBackend):
    """A backend with another name."""

    name = "abacus"


def _open(model, options, build):
    imported(ABACUS)
    return Opened(AbacusBackend(model, options))


INFO = BackendInfo("abacus", "Abacus", "CPU", _open, (ABACUS,))
'''

POWER_SOURCE = '''
"""Watts of a treadmill."""

from compact_yolo_ros.machine.power.source import Part, PowerReading, PowerSourceInfo


class Treadmill:
    """Always the same."""

    name = "treadmill"

    def __init__(self, root):
        pass

    def read(self):
        return PowerReading(watts=75.0)

    def close(self):
        pass


INFO = PowerSourceInfo("treadmill", Part.MACHINE, Treadmill, "`/dev/hamster`")
'''

STORAGE = '''
"""Recordings carved in stone."""

from compact_yolo_ros.recordings.storage import FOREVER, StorageError, StorageInfo


class Stone:
    """A file without messages."""

    def __init__(self, path):
        if path.read_bytes() != b"stone":
            raise StorageError(f"{path.name} is not of stone")
        self.topics, self.start, self.end, self.lost = [], FOREVER, 0, []

    def messages(self, topics, start, stop):
        yield from ()


INFO = StorageInfo(".stone", Stone)
'''


class Checkout:
    """A copy of the repository, in which a file is written and a line of a table changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=skipped)
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)

    def add(self, file: str, content: str) -> None:
        path = self.folder / file
        assert not path.exists()
        path.write_text(content)

    def change_line(self, table: str, old: str, new: str) -> None:
        path = self.folder / table
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def run_together(self, *commands: tuple[object, ...], then: str, first: str = "") -> str:
        """Run modules one after the other between code, in one process: it loads PyTorch once."""
        words = [[str(word) for word in command] for command in commands]
        code = (
            f"import sys; from importlib import import_module\n{first}"
            f"for sys.argv in {words}:\n    assert not import_module(sys.argv[0]).main()\n"
        )
        return self.run("-c", code + then)

    def run(self, *command: str | Path, code: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


@pytest.mark.slow
def test_a_detector_is_a_file_and_a_line(checkout: Checkout, tmp_path: Path) -> None:
    checkout.add("training/detectors/pocket.py", DETECTOR)
    checkout.change_line("training/detectors/registry.py", '"yolo_ret",', '"yolo_ret", "pocket",')
    drawn = {name: "0 0.3 0.4 0.3 0.5\n" for name in "abcd"}
    write_yolo(tmp_path / "set", drawn, ["square"], "val")
    data = write_yolo(tmp_path / "set", drawn, ["square"], "train", val="images/val")
    two_steps = ("phases.0.epochs=1", "batch_size=2")
    settings = [word for each in two_steps for word in ("--set", each)]
    run = ("training.train", "--data", data, "--detector", "pocket", "--out", "run")
    found = checkout.run_together(
        ("training.describe", "--write"),
        (*run, "--workers", "0", "--threads", "1", *settings),
        ("training.export", "--weights", "run/last.pt", "--out", "pocket.onnx"),
        ("training.export_zoo", "zoo", "--only", "pocket"),
        first="from training.detectors.registry import DETECTORS\n"
        "for name in set(DETECTORS) - {'pocket', 'yolo_ret_m075', 'yolo_fastest'}:\n"
        "    del DETECTORS[name]  # counting what they cost takes a while\n",
        then="import numpy as np; from compact_yolo_ros import Detector\n"
        "detector = Detector.open('pocket.onnx')\n"
        "print(detector.card.detector, detector.detect(np.zeros((90, 160, 3), np.uint8)))",
    )
    assert "\npocket Detections(" in found
    assert "pocket" in (checkout.folder / "docs/detectors.md").read_text()


@pytest.mark.slow  # the tools run once, for both
def test_a_backend_and_a_power_source_are_a_file_and_a_line_each(checkout: Checkout) -> None:
    checkout.add("compact_yolo_ros/backends/abacus.py", BACKEND)
    backends = "compact_yolo_ros/backends/registry.py"
    checkout.change_line(backends, "import onnxruntime,", "import abacus, onnxruntime,")
    checkout.change_line(backends, "openvino.INFO)", "openvino.INFO, abacus.INFO)")
    checkout.add("compact_yolo_ros/machine/power/treadmill.py", POWER_SOURCE)
    sources = "compact_yolo_ros/machine/power/table.py"
    checkout.change_line(sources, "    tegrastats,\n", "    tegrastats,\n    treadmill,\n")
    checkout.change_line(sources, "    battery.INFO,\n", "    treadmill.INFO,\n    battery.INFO,\n")

    asked = ("--backends", "abacus", "--rounds", "1", "--threads", "1")
    found = checkout.run_together(
        ("compact_yolo_ros.apps.benchmark.command", "yolo_fastest", *asked),
        then="from pathlib import Path; from compact_yolo_ros import Detector, RunOptions\n"
        "from compact_yolo_ros.machine.power import find_power_source\n"
        "source = find_power_source(Path('no sysfs'))\n"
        "opened = Detector.open(RunOptions('yolo_fastest', backend='abacus')).opened\n"
        "print('OPENED', opened, source.name, source.read().watts)",
    )
    table, _, opened = found.partition("OPENED")
    assert "abacus" in table
    assert "AbacusBackend" in opened and "as requested" in opened and "treadmill 75.0" in opened
    doctor = ("-m", "compact_yolo_ros.apps.doctor.command", "--listen", "0")
    report = checkout.run(*doctor, "--model", "yolo_fastest")
    assert "Abacus" in report  # among the libraries
    assert "runs yolo_fastest in fp32 on CPU" in report.partition("abacus")[2]
    assert "treadmill" in report and "75.0" in report

    checkout.run("docs/generate.py")
    docs = {path.stem: path.read_text() for path in (checkout.folder / "docs").glob("*.md")}
    assert "openvino, abacus" in docs["node"]
    assert "| `abacus` | CPU | Abacus | if it is the fastest |" in docs["runtimes"]
    assert "treadmill" in docs["power"] and "`/dev/hamster`" in docs["power"]


def test_a_storage_format_is_a_file_and_a_line(checkout: Checkout) -> None:
    checkout.add("compact_yolo_ros/recordings/stone.py", STORAGE)
    table = "compact_yolo_ros/recordings/storages.py"
    checkout.change_line(table, "import mcap, sqlite", "import mcap, sqlite, stone")
    checkout.change_line(table, "sqlite.INFO)}", "sqlite.INFO, stone.INFO)}")
    (checkout.folder / "a.stone").write_bytes(b"stone")
    (checkout.folder / "b.stone").write_bytes(b"sand")
    (checkout.folder / "empty").mkdir()
    failed = (
        "import sys; from pathlib import Path; from compact_yolo_ros.recordings.reader import Bag\n"
        "try:\n    Bag([Path(sys.argv[1])])\nexcept ValueError as error:\n    print(error)"
    )
    assert "a.stone: it holds no messages" in checkout.run("-c", failed, "a.stone")
    assert ".mcap or .db3 or .stone" in checkout.run("-c", failed, "empty")
    assert "not of stone" in checkout.run("-c", failed, "b.stone")

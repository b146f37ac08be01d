# SPDX-License-Identifier: Apache-2.0
"""What the tests on a GPU find, as JSON and as a page."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.machine.description import describe_machine
from compact_yolo_ros.machine.power import PowerMonitor, find_power_source
from compact_yolo_ros.support.files import replacing

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class GpuReport:
    """Tables by title, written after every row; nowhere if there is no folder."""

    folder: Path | None
    facts: dict[str, str]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, title: str, **row: Any) -> None:
        """Add a row; the rows of a table have the same columns."""
        self.tables.setdefault(title, []).append(row)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {"facts": self.facts, "tables": self.tables}
            self._write("results.json", json.dumps(content, indent=1) + "\n")
            self._write("results.md", self._page())

    def _write(self, name: str, text: str) -> None:
        assert self.folder is not None
        with replacing(self.folder / name) as temporary:
            temporary.write_text(text)

    def _page(self) -> str:
        lines = ["# TensorRT on a GPU", ""]
        lines += [f"- {name}: {value}" for name, value in self.facts.items()]
        for title, rows in self.tables.items():
            lines += ["", f"## {title}", "", _line(rows[0]), _line("---" for _ in rows[0])]
            lines += [_line(row.values()) for row in rows]
        return "\n".join(lines) + "\n"


def is_double(device: Gpu) -> bool:
    """Whether pycuda is its double (test/doubles)."""
    return hasattr(device.driver, "violations")


def _line(cells: Any) -> str:
    return f"| {' | '.join(_text(cell) for cell in cells)} |"


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell >= 1000 else f"{cell:.3g}"
    return str(cell)


def describe(trt: Any, device: Gpu) -> dict[str, str]:
    """Card, versions, machine, date and commit."""
    monitor = PowerMonitor(lambda: find_power_source(Path("/"), on_gpu=True))
    try:
        machine = describe_machine(monitor.summary())
    finally:
        monitor.close()
    tested = {
        "GPU": f"{device.name}, compute capability {device.compute_capability}",
        "driver": _driver(),
        "TensorRT": trt.__version__,
        "CUDA of pycuda": device.cuda,
    }
    # What is installed beside a double is not what is tested.
    return {**tested, **machine, **tested, "commit": _commit()}


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def _commit() -> str:
    bundled = ROOT / ".commit"  # of test/gpu/bundle.py
    if bundled.is_file():
        return bundled.read_text().strip()
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

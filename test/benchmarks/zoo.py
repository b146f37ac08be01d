# SPDX-License-Identifier: Apache-2.0
"""Measure every detector's latency in ONNX Runtime, beside YOLO-Fastest in the same run.

    python test/benchmarks/zoo.py --out docs

writes zoo.md and zoo.png. The whole graph is measured, from uint8 pixels to ranked boxes, at the
input size of the paper. Before each run of a detector YOLO-Fastest 1.1 runs once: the ratio of the
two, and its median over the rounds, is what other load on the machine changes least.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from compact_yolo_ros.backends import Backend, open_backend  # noqa: E402
from compact_yolo_ros.model_card import ModelCard  # noqa: E402
from compact_yolo_ros.model_store import find_model  # noqa: E402
from training.complexity import macs  # noqa: E402
from training.detectors.registry import DETECTORS, build  # noqa: E402
from training.export import export  # noqa: E402
from training.published import PUBLISHED  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

REFERENCE = "yolo_fastest"
THREADS = (1, 2)
PAGE = """# Latency of the detectors

*Written by `python test/benchmarks/zoo.py --out docs`.*

{method}

{table}

![Latency over multiply-accumulates](zoo.png)
"""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one detector, one entry a round, and of the reference just before each."""

    own: np.ndarray
    reference: np.ndarray

    @property
    def ratio(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.own / self.reference))


def write_models(folder: Path) -> None:
    """Export the detectors that are not in ``folder`` yet."""
    for name in DETECTORS:
        path = folder / f"{name}.onnx"
        if path.exists():
            continue
        torch.manual_seed(0)
        detector = build(name).eval()
        for module in detector.modules():
            if isinstance(module, nn.Conv2d):
                # Signals that die out would reach denormal numbers, which are slow.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        classes = tuple(f"class {number}" for number in range(detector.num_classes))
        export(detector, path, ModelCard(name, name, classes, PUBLISHED[name].input))


def count_gmacs(name: str) -> float:
    """Return the 10^9 MACs of a detector at its paper's input size."""
    size = PUBLISHED[name].input
    with torch.device("meta"):
        return macs(build(name), size, size) / 1e9


def measure(folder: Path, threads: int, rounds: int) -> dict[str, Timing]:
    """Run all detectors in turns."""
    opened = {name: _open(folder, name, threads) for name in DETECTORS}
    reference = opened[REFERENCE]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in DETECTORS}
    for turn in range(rounds + 2):
        for name, backend in opened.items():
            before, own = _milliseconds(reference), _milliseconds(backend)
            if turn >= 2:
                times[name].append((own, before))
    return {name: Timing(*np.array(pairs).T) for name, pairs in times.items()}


def _open(folder: Path, name: str, threads: int) -> Backend:
    size = PUBLISHED[name].input
    model = find_model(str(folder / f"{name}.onnx"))
    backend = open_backend(model, backend="onnxruntime", input_size=(size, size), threads=threads)
    backend.input[:] = np.random.default_rng(0).integers(0, 256, backend.input.shape, np.uint8)
    return backend


def _milliseconds(backend: Backend) -> float:
    started = time.perf_counter()
    backend.run()
    return 1e3 * (time.perf_counter() - started)


def to_markdown(gmacs: dict[str, float], timings: dict[int, dict[str, Timing]]) -> str:
    """Return the page."""
    columns = ["detector", "input", "GMAC"]
    for threads in THREADS:
        columns += [f"ms, {threads} thread{'s' * (threads > 1)}: p50 / p95 / p99", "ratio"]
    columns.append("GMAC/s, 1 thread")
    lines = [columns, ["---"] * len(columns)]
    for name in sorted(gmacs, key=lambda name: timings[1][name].ratio):
        cells = [name, str(PUBLISHED[name].input), f"{gmacs[name]:.3f}"]
        for threads in THREADS:
            timing = timings[threads][name]
            cells += [
                " / ".join(f"{np.percentile(timing.own, p):.1f}" for p in (50, 95, 99)),
                f"{timing.ratio:.2f}",
            ]
        cells.append(f"{gmacs[name] / np.median(timings[1][name].own) * 1e3:.0f}")
        lines.append(cells)
    rounds = len(timings[1][REFERENCE].own)
    method = (
        f"ONNX Runtime {onnxruntime.__version__} on {_processor()}, float32, batch 1, spinning "
        "off, from uint8 pixels to 300 ranked boxes, each at its paper's input size and number of "
        f"classes; {rounds} rounds, detectors in turns. *Ratio* is to `{REFERENCE}` (version 1.1 "
        "at 320), run just before. Weights are random, which does not change the work. Absolute "
        "times are those of two cores which other programs used too, mostly the second one."
    )
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return PAGE.format(method=textwrap.fill(method, 100), table=table)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def plot(path: Path, gmacs: dict[str, float], timings: dict[int, dict[str, Timing]]) -> None:
    """Draw latency per multiply-accumulate, one dot a detector and number of threads."""
    figure, axes = pyplot.subplots(figsize=(10, 6))
    names = sorted(gmacs, key=gmacs.__getitem__)
    cost = {
        threads: [float(np.median(timings[threads][name].own)) / gmacs[name] for name in names]
        for threads in THREADS
    }
    for threads, colour in zip(THREADS, ("tab:blue", "tab:orange"), strict=True):
        label = f"{threads} thread{'s' * (threads > 1)}"
        axes.scatter([gmacs[name] for name in names], cost[threads], color=colour, label=label)
    # Neighbours have their names at different heights.
    heights = (18, -24, 42, -48, 66, -72)
    for number, (name, value) in enumerate(zip(names, cost[1], strict=True)):
        axes.annotate(
            name,
            (gmacs[name], value),
            xytext=(0, heights[number % len(heights)]),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.7},
        )
    axes.set(
        xscale="log",
        xlim=(min(gmacs.values()) / 1.5, max(gmacs.values()) * 1.6),
        ylim=(0, 1.25 * max(cost[1] + cost[2])),
        xlabel="GMAC at the paper's input size",
        ylabel="median ms per GMAC",
    )
    axes.legend()
    axes.set_title("Detectors in ONNX Runtime, whole graph, float32: lower is faster for its size")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--models",
        type=Path,
        help="keep the exported files in this folder, and use those that are there",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.models or Path(temporary)
        folder.mkdir(exist_ok=True)
        write_models(folder)
        timings = {threads: measure(folder, threads, options.rounds) for threads in THREADS}
    gmacs = {name: count_gmacs(name) for name in DETECTORS}
    options.out.mkdir(exist_ok=True)
    (options.out / "zoo.md").write_text(to_markdown(gmacs, timings))
    plot(options.out / "zoo.png", gmacs, timings)


if __name__ == "__main__":
    main()

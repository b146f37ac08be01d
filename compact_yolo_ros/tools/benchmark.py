# SPDX-License-Identifier: Apache-2.0
"""Measure the latency of models on this machine's CPU, side by side in one run.

    benchmark yolo_ret_m075 own.onnx --threads 1 2 4 --spinning
    benchmark yolo_ret_m075 yolo_ret_m075_int8.onnx
    benchmark --zoo FOLDER --reference yolo_fastest --out docs

The whole graph is measured, from uint8 pixels to ranked boxes, at each model's default input size.
Before each run of a model the reference runs once: the ratio of the two, and its median over the
rounds, is what other load on the machine changes least. With --spinning each model is measured once
more, with threads that wait for work in a loop instead of asleep while the network runs.
"""

from __future__ import annotations

import argparse
import platform
import sys
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compact_yolo_ros.backends import Backend, BackendError
from compact_yolo_ros.backends.backend import Request
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.files import replacing
from compact_yolo_ros.model_store import ModelError, ModelFile, find_model, model_names

WARM_UP = 2
"""Rounds that do not count."""
SPINNING = ", spinning"
"""Added to the names of models that are measured with spinning threads."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one model, one entry a round, and of the reference just before each."""

    own: NDArray[np.float64]
    reference: NDArray[np.float64]

    @property
    def median(self) -> float:
        """Of the model's own times."""
        return float(np.median(self.own))

    @property
    def ratio(self) -> float:
        """Median over the rounds of the model's time to the reference's."""
        return float(np.median(self.own / self.reference))


Results = dict[int, dict[str, Timing]]
"""Timings by number of threads and name of the model."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the process's exit code."""
    options = _parse(arguments)
    try:
        models = _find_models(options)
        reference = options.reference or next(iter(models))
        if reference not in models:
            raise ModelError(f"the reference '{reference}' is not among {', '.join(models)}")
        results = {
            threads: measure(models, reference, threads, options.rounds, options.spinning)
            for threads in options.threads
        }
    except (ModelError, BackendError, ValueError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    rows = to_rows(models, results)
    _print(rows)
    if options.out:
        name = "zoo" if options.zoo else "benchmark"
        _save(options.out, name, method(reference, options.rounds), rows, models, results)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names or .onnx paths [all of the package]")
    parser.add_argument("--zoo", type=Path, help="measure all .onnx files of this folder instead")
    parser.add_argument("--reference", help="model that the ratios are to [the first]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--spinning", action="store_true", help="measure with spinning threads, too"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="folder for the table (Markdown) and the plot")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or min(options.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    if options.zoo and options.models:
        parser.error("give models or --zoo, not both")
    return options


def _find_models(options: argparse.Namespace) -> dict[str, ModelFile]:
    names = options.models or model_names()
    if options.zoo:
        names = [str(path) for path in sorted(options.zoo.glob("*.onnx"))]
        if not names:
            raise ModelError(
                f"{options.zoo} holds no .onnx files: "
                f"`python -m training.export_zoo {options.zoo}` writes all detectors there"
            )
    return {_title(model): model for model in map(find_model, names)}


def _title(model: ModelFile) -> str:
    """Its name, and its precision unless that is FP32 or in the name."""
    name, precision = model.card.name, model.card.precision
    return name if precision == "fp32" or precision in name else f"{name} ({precision})"


def measure(
    models: dict[str, ModelFile], reference: str, threads: int, rounds: int, spinning: bool = False
) -> dict[str, Timing]:
    """Run all models in turns, the reference before each; with ``spinning`` both ways.

    Raises:
        BackendError: a model cannot be run.
    """
    opened = {name: _open(model, threads) for name, model in models.items()}
    if spinning:
        opened |= {name + SPINNING: _open(model, threads, True) for name, model in models.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in opened}
    for turn in track(range(rounds + WARM_UP), f"{threads} threads", console=Console(stderr=True)):
        for name, backend in opened.items():
            before, own = _milliseconds(opened[reference]), _milliseconds(backend)
            if turn >= WARM_UP:
                times[name].append((own, before))
    for backend in opened.values():
        backend.close()
    return {name: Timing(*np.array(pairs).T) for name, pairs in times.items()}


def _open(model: ModelFile, threads: int, spinning: bool = False) -> Backend:
    side, precision = model.card.default_size, model.card.precision
    request = Request(model, (side, side), precision, threads=threads)
    backend = OnnxRuntimeBackend(request, spinning)
    backend.input[:] = np.random.default_rng(0).integers(0, 256, backend.input.shape, np.uint8)
    return backend


def _milliseconds(backend: Backend) -> float:
    started = perf_counter()
    backend.run()
    return 1e3 * (perf_counter() - started)


def to_rows(models: dict[str, ModelFile], results: Results) -> list[list[str]]:
    """The table, fastest model first; its first row holds the titles."""
    titles = ["model", "input", "GMAC"]
    for threads in results:
        plural = "s" * (threads > 1)
        titles += [f"ms, {threads} thread{plural}: p50 / p95 / p99", "ratio"]
    rows = [titles]
    first = next(iter(results.values()))
    for name in sorted(first, key=lambda name: first[name].ratio):
        model = models[name.removesuffix(SPINNING)]
        gmac = _gmac(model)
        row = [name, str(model.card.default_size), f"{gmac:.3f}" if gmac else "-"]
        for timings in results.values():
            percentiles = np.percentile(timings[name].own, (50, 95, 99))
            row += [" / ".join(f"{ms:.1f}" for ms in percentiles), f"{timings[name].ratio:.2f}"]
        rows.append(row)
    return rows


def method(reference: str, rounds: int) -> str:
    """One paragraph on how the figures came about."""
    return (
        f"ONNX Runtime {metadata.version('onnxruntime')} on {_processor()}, batch 1, spinning off "
        "unless the name says otherwise, "
        "from uint8 pixels to 300 ranked boxes, each model at its default input size; "
        f"{rounds} rounds, models in turns. *Ratio* is to `{reference}`, run just before. Weights, "
        "trained or not, do not change the work."
    )


def _gmac(model: ModelFile) -> float:
    """10^9 multiply-accumulates at the default input size; 0 if the card does not say."""
    return model.card.gmacs.get(str(model.card.default_size), 0.0)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def _print(rows: list[list[str]]) -> None:
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def _save(
    out: Path,
    name: str,
    how: str,
    rows: list[list[str]],
    models: dict[str, ModelFile],
    results: Results,
) -> None:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    page = f"# Latency\n\n*Written by `benchmark`.*\n\n{textwrap.fill(how, 100)}\n\n{table}\n"
    if _plot(out / f"{name}.png", models, results):
        page += f"\n![Milliseconds per GMAC]({name}.png)\n"
    with replacing(out / f"{name}.md") as path:
        path.write_text(page)


def _plot(path: Path, models: dict[str, ModelFile], results: Results) -> bool:
    """Draw the time per multiply-accumulate; return False where that cannot be done."""
    names = sorted(filter(lambda name: _gmac(models[name]), models), key=lambda n: _gmac(models[n]))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("benchmark: no plot without matplotlib: pip install matplotlib", file=sys.stderr)
        return False
    if not names:
        return False
    gmacs = [_gmac(models[name]) for name in names]
    figure = Figure(figsize=(10, 6), layout="tight")
    axes = figure.add_subplot()
    for threads, timings in results.items():
        cost = [timings[name].median / gmac for name, gmac in zip(names, gmacs, strict=True)]
        axes.scatter(gmacs, cost, label=f"{threads} thread{'s' * (threads > 1)}")
    first = next(iter(results.values()))
    heights = (18, -24, 42, -48, 66, -72)  # neighbours have their names at different heights
    for number, (name, gmac) in enumerate(zip(names, gmacs, strict=True)):
        axes.annotate(
            name,
            (gmac, first[name].median / gmac),
            xytext=(0, heights[number % len(heights)]),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.7},
        )
    axes.set(xscale="log", xlabel="GMAC at the default input size", ylabel="median ms per GMAC")
    axes.set_xlim(min(gmacs) / 1.5, max(gmacs) * 1.6)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.set_title("Whole graph in ONNX Runtime: lower is faster for its size")
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return True


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Plots of measurements; only this module loads matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.benchmark.latency import Timing
from compact_yolo_ros.apps.benchmark.peak_rate import LOSS, Peak
from compact_yolo_ros.apps.benchmark.tables import in_order
from compact_yolo_ros.evaluation.plots import literal
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.optional_modules import lacking
from compact_yolo_ros.support.wording import counted


def what_plots_need() -> str:
    """A sentence for those who lack it; empty if plots can be drawn."""
    needed = lacking("matplotlib.figure")
    return f"no plot without {needed}" if needed else ""


def plot_latencies(path: Path, timings: Sequence[Timing]) -> bool:
    """Draw the time for each multiply-accumulate; return False if no card has their number."""
    from matplotlib.figure import Figure

    timings = [timing for timing in timings if timing.gmac]
    if not timings:
        return False
    figure = Figure(figsize=(10, 6), layout="tight")
    axes = figure.add_subplot()
    series: dict[str, list[tuple[float, float]]] = {}
    for timing in timings:
        point = (timing.gmac or 0.0, _cost(timing))
        series.setdefault(_runtime(timing, timings), []).append(point)
    for label, points in series.items():
        axes.scatter(*zip(*points, strict=True), label=label)
    _annotate(axes, timings)
    gmacs = [timing.gmac or 0.0 for timing in timings]
    axes.set(xscale="log", xlabel="GMAC", ylabel="median ms per GMAC")
    axes.set_xlim(min(gmacs) / 1.5, max(gmacs) * 1.6)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.set_title("Whole graph: lower is faster for its size")
    axes.legend()
    _save(figure, path)
    return True


def plot_peaks(path: Path, peaks: Sequence[Peak]) -> None:
    """Draw the loss of every run over its rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="tight")
    axes = figure.add_subplot()
    for number, peak in enumerate(peaks):
        runs = (*peak.search, *peak.runs)
        colour = f"C{number % 10}"
        rates, losses = [run.rate for run in runs], [100 * run.loss for run in runs]
        axes.plot(
            rates,
            losses,
            "o",
            alpha=0.6,
            color=colour,
            label=literal(f"{peak.name}: {peak.rate:.1f}"),
        )
        axes.axvline(peak.rate, color=colour, linestyle="--", linewidth=1)
    axes.axhline(100 * LOSS, color="0.5", linestyle=":")
    axes.set(xlabel="images published per second", ylabel="% without an answer", xscale="log")
    axes.set_title("Peak rate of the node: dashed, at most 5 % lost")
    axes.legend()
    _save(figure, path)


def _cost(timing: Timing) -> float:
    return timing.percentiles.p50 / (timing.gmac or 1.0)


def _runtime(timing: Timing, timings: Sequence[Timing]) -> str:
    """How the model was run, as far as that differs between the timings."""
    parts = [timing.backend, timing.precision]
    kept = [parts[n] for n in range(2) if len({(t.backend, t.precision)[n] for t in timings}) > 1]
    kept.append(counted(timing.threads, "thread"))
    return ", ".join([*kept, *["spinning"] * timing.run.options.spinning])


def _annotate(axes: Any, timings: Sequence[Timing]) -> None:
    """Write each model's name at its first point, at a different height than its neighbours."""
    firsts: dict[tuple[str, Size], Timing] = {}
    for timing in in_order(timings):
        firsts.setdefault((timing.run.name, timing.run.size), timing)
    several = len({size for _, size in firsts}) > 1 and len(firsts) > len(
        {name for name, _ in firsts}
    )
    heights = (16, -30, 44, -58, 72, -86)
    highest = max(map(_cost, timings))
    ordered = sorted(firsts.items(), key=lambda item: item[1].gmac or 0.0)
    for number, ((name, size), timing) in enumerate(ordered):
        height = heights[number % len(heights)]
        has_room_below = _cost(timing) > highest / 2
        axes.annotate(
            literal(f"{name} @{size}" if several else name),
            (timing.gmac, _cost(timing)),
            xytext=(0, height if has_room_below else abs(height)),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.7},
        )


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)

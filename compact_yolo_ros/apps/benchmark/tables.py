# SPDX-License-Identifier: Apache-2.0
"""Measurements as tables, for the terminal and for a page of Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from compact_yolo_ros.apps.benchmark.latency import Measurement, Timing
from compact_yolo_ros.apps.benchmark.peak_rate import LOSS, PUNCTUAL, LoadRun, Peak
from compact_yolo_ros.model.published import published_figures
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.markdown import markdown_table
from compact_yolo_ros.support.percentiles import Percentiles

Rows = list[list[str]]
"""Cells of a table; the first row holds the titles."""
NODE_FACTS = ("model", "input_size", "backend", "precision", "threads")
"""Keys of /diagnostics that the table of peak rates has as columns."""
PUBLISHED_TITLES = [
    "model", "data", "AP50 % (published)", "size", "GMAC", "FPS (published)", "AP50 % of this file",
    "source",
]  # fmt: skip


def latency_rows(measurement: Measurement) -> Rows:
    """One row for each timing, fastest model first."""
    timings = in_order(measurement.timings)
    powered = any(timing.watts for timing in timings)
    titles = ["model", "input", "backend", "precision", "threads", "MB", "M parameters", "GMAC"]
    titles += ["ms: p50 / p95 / p99", "FPS", "ratio", *(["W", "images/s/W"] if powered else [])]
    rows = [titles]
    for timing in timings:
        run, parameters = timing.run, timing.card.parameters
        row = [
            f"{run.name}, spinning" if run.options.spinning else run.name,
            str(run.size),
            timing.backend,
            timing.precision,
            str(timing.threads),
            f"{run.path.stat().st_size / 1e6:.2f}",
            f"{parameters / 1e6:.3f}" if parameters else "-",
            f"{timing.gmac:.3f}" if timing.gmac else "-",
            " / ".join(f"{ms:.1f}" for ms in timing.percentiles),
            f"{timing.fps:.1f}",
            f"{timing.ratio:.2f}",
        ]
        if powered:
            row += [_figure(timing.watts, 2), _figure(timing.images_per_joule, 2)]
        rows.append(row)
    return rows


def in_order(timings: Sequence[Timing]) -> list[Timing]:
    """Sort by speed, and keep the thread counts of one model, size and runtime together."""

    def group(timing: Timing) -> tuple[str, Size, str, str, bool]:
        run = timing.run
        return run.name, run.size, timing.backend, timing.precision, run.options.spinning

    first: dict[tuple[str, Size, str, str, bool], float] = {}
    for timing in timings:
        first.setdefault(group(timing), timing.ratio)
    return sorted(timings, key=lambda t: (first[group(t)], group(t), t.threads))


def published_rows(measurement: Measurement) -> Rows:
    """Published figures of the models; only the titles if there are none."""
    rows = [PUBLISHED_TITLES]
    for card in {t.run.name: t.card for t in in_order(measurement.timings)}.values():
        known = published_figures().get(card.detector)
        # With other options it is another network than the published one.
        if known is None or card.detector_options:
            continue
        own = {size: 100 * values["AP50"] for size, values in card.ap.items() if "AP50" in values}
        rows.append(
            [
                card.name,
                known.data,
                _by_size(known.ap50),
                f"{known.size:g} {known.size_unit}" if known.size else "-",
                f"{known.gmac:.3g} @{known.side}" if known.gmac else "-",
                "; ".join(f"{device}: {_by_size(fps)}" for device, fps in known.fps.items()) or "-",
                f"{_by_size(own)} ({_short(card.ap_data)})" if own else "-",
                known.source,
            ]
        )
    return rows


def peak_rows(peaks: Sequence[Peak]) -> Rows:
    """One row for each measured node."""
    powered = any(peak.watts for peak in peaks)
    fixed = [f"ms at {run.target_rate:g} Hz" for run in peaks[0].fixed]
    titles = ["model", "input", "backend", "precision", "threads", "peak Hz", "lost", "answers/s"]
    rows = [[*titles, "ms: p50 / p95 / p99", *fixed, *(["W", "images/s/W"] if powered else [])]]
    for peak in peaks:
        row = [peak.facts[name] for name in NODE_FACTS]
        row += [f"{peak.rate:.1f}", f"{peak.loss:.1%}", f"{peak.answer_rate:.1f}"]
        row.append(" / ".join(f"{ms:.1f}" for ms in peak.milliseconds))
        row += [_at_fixed(run) for run in peak.fixed]
        if powered:
            row += [
                _figure(peak.watts, 2),
                _figure(peak.answer_rate / peak.watts if peak.watts else None, 2),
            ]
        rows.append(row)
    return rows


def _at_fixed(run: LoadRun) -> str:
    """Percentiles in milliseconds, and the loss if there was one."""
    if not run.seconds:
        return "no answer"
    ages = " / ".join(f"{ms:.1f}" for ms in Percentiles.of(1e3 * s for s in run.seconds))
    if run.rate < PUNCTUAL * run.target_rate:
        ages += f" ({run.rate:.0f} Hz reached)"
    return f"{ages} ({run.loss:.0%} lost)" if run.loss > LOSS else ages


def page(
    title: str,
    method: str,
    tables: Mapping[str, Rows],
    facts: Mapping[str, str],
    notes: Iterable[str] = (),
    picture: str = "",
) -> str:
    """Return a page of Markdown.

    Args:
        title: heading of the page.
        method: how the figures were measured.
        tables: by heading, which may be empty; tables without rows are left out.
        facts: description of the machine.
        notes: sentences about what is missing.
        picture: file name of the plot in the same folder; empty if there is none.
    """
    parts = [f"# {title}", "*Written by `benchmark`.*", _paragraph(method)]
    for heading, rows in tables.items():
        if len(rows) > 1:
            parts += [f"## {heading}"] if heading else []
            parts.append(markdown_table(rows[0], rows[1:]))
    parts += [_paragraph(note) for note in notes]
    if picture:
        parts.append(f"![Plot]({picture})")
    parts += ["## Machine", markdown_table(["", ""], facts.items())]
    return "\n\n".join(parts) + "\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _by_size(values: Mapping[int, float] | Mapping[str, float]) -> str:
    return ", ".join(f"{value:.4g} @{side}" for side, value in values.items())


def _short(text: str) -> str:
    """The text before the first semicolon or full stop."""
    return text.partition(";")[0].partition(". ")[0].rstrip(".")


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

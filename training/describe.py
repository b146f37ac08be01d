# SPDX-License-Identifier: Apache-2.0
"""Print what detectors cost, beside what was published of them.

python -m training.describe
python -m training.describe yolo_nano
python -m training.describe --markdown docs/detectors.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from training.detectors.complexity import (
    deployed_values,
    kernel_values,
    macs_by_size,
    parameters,
    stored_values,
)
from training.detectors.published import PUBLISHED, READINGS, Published
from training.detectors.registry import DETECTORS, build

SIZES = (224, 320, 416)
# Published figures are printed with two or three digits.
TOLERANCE = 0.02

INTRODUCTION = """# Detectors

*Written by `python -m training.describe --markdown docs/detectors.md`.*

Every detector is what `training.detectors.registry` builds by default. *Values* are parameters and
batch-norm statistics (what a darknet file stores). GMAC are 10^9 multiply-accumulates of the
convolutions; papers that print operations mean twice that. Megabytes are 10^6 bytes: of all
parameters in 32 bits, of kernels and biases with folded norms in 16 bits, of kernels in 8 bits.
"""
COMPARISON = f"""
## Beside the published figures

Size and cost in the unit of the publication, published / here; **bold** where they differ by more
than {TOLERANCE:.0%}. NetScore is 20 log10(a^2 / sqrt(p m)) with a the published AP50 in percent
at the input size of the cost, p the parameters in millions and m the GMAC, both counted here
(Wong, 2018).
"""


@dataclass(frozen=True)
class Description:
    """Exact costs of a registered detector with its default configuration.

    Attributes:
        gmacs: 10^9 multiply-accumulates by side of the input in pixels.
        megabytes: 10^6 bytes of weights in 32, 16 and 8 bits.
        size: in the unit of the published size; None where none is published.
        parts: parameters of its parts.
    """

    name: str
    classes: int
    parameters: int
    stored: int
    gmacs: dict[int, float]
    megabytes: tuple[float, float, float]
    size: float | None
    parts: dict[str, int]

    @property
    def published(self) -> Published:
        """What is known of it from elsewhere."""
        return PUBLISHED[self.name]

    @property
    def net_score(self) -> float:
        """NetScore at the published input size, from the published AP50 there."""
        side = self.published.input
        return net_score(self.published.ap50[side], self.parameters / 1e6, self.gmacs[side])


def net_score(accuracy: float, millions: float, gmac: float) -> float:
    """Return NetScore of an accuracy in percent, parameters in millions and 10^9 MACs."""
    return 20 * math.log10(accuracy**2 / math.sqrt(millions * gmac))


def describe(name: str) -> Description:
    """Build a detector without its weights and count. ValueError for an unknown name."""
    with torch.device("meta"):
        detector = build(name)
    published = PUBLISHED[name]
    counts = macs_by_size(detector, sorted({*SIZES, published.input}))
    values = (4 * parameters(detector), 2 * deployed_values(detector), kernel_values(detector))
    return Description(
        name=name,
        classes=detector.num_classes,
        parameters=parameters(detector),
        stored=stored_values(detector),
        gmacs={side: count / 1e9 for side, count in counts.items()},
        megabytes=tuple(bytes_ / 1e6 for bytes_ in values),
        size=READINGS[published.reading](detector) if published.size else None,
        parts={part: parameters(module) for part, module in detector.named_children()},
    )


def differs(published: float, counted: float) -> bool:
    """Tell whether two figures differ by more than printing explains."""
    return abs(counted / published - 1) > TOLERANCE


COST_HEADER = (
    "detector", "classes", "parameters", "values", *(f"GMAC @{size}" for size in SIZES),
    "FP32 MB", "FP16 MB", "INT8 MB",
)  # fmt: skip
COMPARISON_HEADER = (
    "detector", "AP50 % (published)", "size", "unit", "GMAC", "NetScore", "source", "why different"
)  # fmt: skip


def cost_row(d: Description) -> tuple[str, ...]:
    """Return the cells of COST_HEADER."""
    costs = (f"{d.gmacs[size]:.3f}" for size in SIZES)
    sizes = (f"{m:.2f}" for m in d.megabytes)
    return (d.name, str(d.classes), f"{d.parameters:,}", f"{d.stored:,}", *costs, *sizes)


def comparison_row(d: Description) -> tuple[str, ...]:
    """Return the cells of COMPARISON_HEADER; figures that differ between double asterisks."""
    p = d.published
    accuracy = ", ".join(f"{ap} @{side}" for side, ap in p.ap50.items())
    size = _pair(p.size, d.size, 2)
    cost = _pair(p.gmac, d.gmacs[p.input], 3)
    return (
        d.name,
        f"{p.data}: {accuracy}",
        size,
        p.reading if p.size else "",
        f"{cost} @{p.input}",
        f"{d.net_score:.1f}",
        p.source,
        p.remark,
    )


def _pair(published: float | None, counted: float | None, digits: int) -> str:
    if counted is None:
        return ""
    if published is None:
        return f"- / {counted:.{digits}f}"
    text = f"{published:.4g} / {counted:.{digits}f}"
    return f"**{text}**" if differs(published, counted) else text


def to_markdown(descriptions: Sequence[Description]) -> str:
    """Return the page of all detectors."""
    costs = _markdown_table(COST_HEADER, [cost_row(d) for d in descriptions])
    comparison = _markdown_table(COMPARISON_HEADER, [comparison_row(d) for d in descriptions])
    return "\n".join((INTRODUCTION, costs, COMPARISON, comparison, ""))


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rich_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"[yellow]{c.strip('*')}[/]" if c.startswith("**") else c for c in row))
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Print what detectors cost.")
    parser.add_argument("name", nargs="?", choices=sorted(DETECTORS), help="one detector only")
    parser.add_argument("--markdown", type=Path, help="write all detectors to this page instead")
    arguments = parser.parse_args()
    chosen = [arguments.name] if arguments.name and not arguments.markdown else list(DETECTORS)
    descriptions = [describe(name) for name in chosen]
    if arguments.markdown:
        arguments.markdown.write_text(to_markdown(descriptions))
        return
    console = Console()
    console.print(_rich_table("Costs", COST_HEADER, [cost_row(d) for d in descriptions]))
    title = "Published / here (yellow: they differ)"
    rows = [comparison_row(d) for d in descriptions]
    console.print(_rich_table(title, COMPARISON_HEADER, rows))
    if arguments.name:
        parts = [(part, f"{count:,}") for part, count in descriptions[0].parts.items()]
        console.print(_rich_table("Parameters by part", ("part", "parameters"), parts))
        console.print(DETECTORS[arguments.name][1])


if __name__ == "__main__":
    main()

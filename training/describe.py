# SPDX-License-Identifier: Apache-2.0
"""Print what detectors cost, next to what was published of them.

    python -m training.describe
    python -m training.describe yolo_nano
    python -m training.describe yolo_ret_m075 --set detector.neck=fpn
    python -m training.describe --write

The last one writes what follows from the rows of the detectors: docs/detectors.md, and the
published figures for the benchmark, which runs where there is no training code.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from compact_yolo_ros.model.published import FILE, Published
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.markdown import markdown_table
from compact_yolo_ros.support.terminal import open_console, print_table
from training.detectors.complexity import (
    deployed_values,
    kernel_values,
    macs_by_size,
    parameters,
    stored_values,
)
from training.detectors.publications import SIZE_UNITS
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant, changed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "detectors.md"
SIZES = (224, 320, 416)
# Published figures are printed with two or three digits.
TOLERANCE = 0.02

INTRODUCTION = """# Detectors

*Written by `make docs` from the rows in `training/detectors/`.*

*Classes* are those that a detector is built for by default. *Values* are parameters and batch-norm
statistics (what a darknet file stores). GMAC are 10^9 multiply-accumulates of the convolutions;
papers that print operations mean twice that. Megabytes are 10^6 bytes: of all parameters in 32
bits, of kernels and biases with folded norms in 16 bits, of kernels in 8 bits. *As published* is
the file in `training/recipes` that `training.train --recipe paper` takes.
"""
COMPARISON = f"""
## Published figures

Size and cost in the unit of the publication, published / here; **bold** where they differ by more
than {TOLERANCE:.0%}. NetScore is 20 log10(a^2 / sqrt(p m)) with a the published AP50 in percent
at the input size of the cost, p the parameters in millions and m the GMAC, both counted here
(Wong, 2018). Images a second on Jetsons are in `compact_yolo_ros/model/published.json`, which the
benchmark prints beside its own; those of YOLO-ReT on Xavier NX and AGX at 416 and 224 pixels were
not at hand.
"""


@dataclass(frozen=True)
class Description:
    """Exact costs of a detector.

    Attributes:
        variant: the detector with its options.
        parameters: trainable values.
        stored: parameters and batch-norm statistics.
        gmacs: 10^9 multiply-accumulates by side of the input in pixels.
        megabytes: 10^6 bytes of weights in 32, 16 and 8 bits.
        size: in the unit of the published size; None where none is published.
        parts: parameters of its parts.
    """

    variant: Variant
    parameters: int
    stored: int
    gmacs: dict[int, float]
    megabytes: tuple[float, float, float]
    size: float | None
    parts: dict[str, int]

    @property
    def name(self) -> str:
        """As recipes and model cards say it."""
        return str(self.variant)

    @property
    def published(self) -> Published | None:
        """What the publication says of it; None: nothing, as of one with options."""
        return None if self.variant.options else self.variant.spec.published

    @property
    def net_score(self) -> float | None:
        """NetScore from the published AP50 at the input size of the cost; None: none published."""
        if self.published is None or self.published.side not in self.published.ap50:
            return None
        side = self.published.side
        return net_score(self.published.ap50[side], self.parameters / 1e6, self.gmacs[side])


def net_score(accuracy: float, millions: float, gmac: float) -> float:
    """Return NetScore (Wong, 2018): 20 log10(a^2 / sqrt(p m)).

    Args:
        accuracy: a, in percent.
        millions: p, parameters in millions.
        gmac: m, 10^9 multiply-accumulates for an image.
    """
    return 20 * math.log10(accuracy**2 / math.sqrt(millions * gmac))


def describe(text: str) -> Description:
    """Build a detector without memory for its weights, and count.

    Args:
        text: a name, or one with options, as ``Variant.parse`` takes it.

    Raises:
        ValueError: there is no such detector.
    """
    variant = Variant.parse(text)
    with torch.device("meta"):
        detector = variant.build()
    published = None if variant.options else variant.spec.published
    counts = macs_by_size(detector, sorted({*SIZES, *([published.side] if published else [])}))
    kernels = kernel_values(detector)
    return Description(
        variant=variant,
        parameters=parameters(detector),
        stored=stored_values(detector),
        gmacs={side: count / 1e9 for side, count in counts.items()},
        megabytes=(
            4 * parameters(detector) / 1e6,
            2 * deployed_values(detector) / 1e6,
            kernels / 1e6,
        ),
        size=SIZE_UNITS[published.size_unit](detector) if published and published.size else None,
        parts={part: parameters(module) for part, module in detector.named_children()},
    )


def differs(published: float, counted: float) -> bool:
    """Return whether two figures differ by more than printing explains."""
    return abs(counted / published - 1) > TOLERANCE


COST_HEADER = (
    "detector", "classes", "parameters", "values", *(f"GMAC @{size}" for size in SIZES),
    "FP32 MB", "FP16 MB", "INT8 MB", "as published",
)  # fmt: skip
COMPARISON_HEADER = (
    "detector", "AP50 % (published)", "size", "unit", "GMAC", "NetScore", "source", "why different"
)  # fmt: skip


def cost_row(d: Description) -> tuple[str, ...]:
    """Return the cells of COST_HEADER."""
    costs = (f"{d.gmacs[size]:.3f}" for size in SIZES)
    sizes = (f"{m:.2f}" for m in d.megabytes)
    counts = (str(d.variant.config.num_classes), f"{d.parameters:,}", f"{d.stored:,}")
    return (d.name, *counts, *costs, *sizes, d.variant.spec.recipe or "-")


def comparison_rows(descriptions: Sequence[Description]) -> list[tuple[str, ...]]:
    """Return the cells of COMPARISON_HEADER for each detector that something is published of.

    Figures that differ stand between double asterisks.
    """
    return [_comparison(d, d.published) for d in descriptions if d.published]


def _comparison(d: Description, p: Published) -> tuple[str, ...]:
    tables = {p.data: p.ap50, **p.also}
    accuracies = (f"{data}: {_by_side(ap50)}" for data, ap50 in tables.items() if ap50)
    return (
        d.name,
        "; ".join(accuracies) or "-",
        _pair(p.size, d.size, 2),
        p.size_unit if p.size else "",
        f"{_pair(p.gmac, d.gmacs[p.side], 3)} @{p.side}",
        "-" if d.net_score is None else f"{d.net_score:.1f}",
        p.source,
        p.remark,
    )


def _by_side(figures: Mapping[int, float]) -> str:
    return ", ".join(f"{figure} @{side}" for side, figure in figures.items())


def _pair(published: float | None, counted: float | None, digits: int) -> str:
    if counted is None:
        return ""
    if published is None:
        return f"- / {counted:.{digits}f}"
    text = f"{published:.4g} / {counted:.{digits}f}"
    return f"**{text}**" if differs(published, counted) else text


def to_markdown(descriptions: Sequence[Description]) -> str:
    """Return the page of all detectors."""
    costs = markdown_table(COST_HEADER, [cost_row(d) for d in descriptions])
    comparison = markdown_table(COMPARISON_HEADER, comparison_rows(descriptions))
    return "\n".join((INTRODUCTION, costs, COMPARISON, comparison, ""))


def figures_for_benchmark() -> str:
    """Return the published figures of all detectors as the text of published.json."""
    figures = {name: spec.published.to_dict() for name, spec in DETECTORS.items() if spec.published}
    return json.dumps(figures, indent=1) + "\n"


def write(page: Path = PAGE, figures: Path = FILE) -> None:
    """Write the page of all detectors, and the published figures for the benchmark."""
    texts = {
        page: to_markdown([describe(name) for name in DETECTORS]),
        figures: figures_for_benchmark(),
    }
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)


def _print(
    console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table; figures between double asterisks are yellow."""
    cells = [
        [Text(c.strip("*"), style="yellow") if c.startswith("**") else c for c in row]
        for row in rows
    ]
    print_table(console, head, cells, title)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Print what detectors cost.")
    parser.add_argument(
        "name", nargs="?", default="", help="one only: a name, or '{name: ..., options}'"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="detector.KEY=VALUE",
        help="another option of it: detector.neck=fpn, ...",
    )
    parser.add_argument(
        "--write", action="store_true", help="write docs/detectors.md and published.json instead"
    )
    arguments = parser.parse_args()
    if arguments.write:
        if arguments.name or arguments.set:
            parser.error("--write writes about all detectors: give no name and no --set")
        write()
        return
    if arguments.set and not arguments.name:
        parser.error("--set goes with the name of a detector")
    try:
        chosen = [changed(arguments.name, arguments.set)] if arguments.name else list(DETECTORS)
        descriptions = [describe(text) for text in chosen]
    except ValueError as error:
        parser.error(str(error))
    console = open_console()
    _print(console, "Costs", COST_HEADER, [cost_row(d) for d in descriptions])
    title = "Published / here (yellow: they differ)"
    if rows := comparison_rows(descriptions):
        _print(console, title, COMPARISON_HEADER, rows)
    if arguments.name:
        parts = [(part, f"{count:,}") for part, count in descriptions[0].parts.items()]
        _print(console, "Parameters by part", ("part", "parameters"), parts)
        console.print(descriptions[0].variant.config)


if __name__ == "__main__":
    main()

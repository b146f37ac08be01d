# SPDX-License-Identifier: Apache-2.0
"""Draw docs/architecture.svg: the parts of the repository and what each imports (``make docs``).

Parts, subjects and arrows are read from the code: subjects from the docstrings of the packages,
arrows from their imports. An arrow that follows from others is left out.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # training/ is not installed

from compact_yolo_ros.support.files import replacing  # noqa: E402

PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGE = "compact_yolo_ros"

PLACES = {
    "apps": (0.5, 0),
    "training": (1.6, 0),
    "ros": (0, 1),
    "evaluation": (2.1, 1),
    "recordings": (0, 2),
    "machine": (1, 2),
    "labels": (2.1, 2),
    "detection": (1.5, 3),
    "backends": (0.5, 4),
    "pixels": (1.5, 5),
    "model": (0.5, 5),
    "support": (1, 6),
}
"""Column and row of each part; every arrow leads to a lower row."""

WIDTH, HEIGHT = 236, 74
COLUMN, ROW = 262, 112
MARGIN = 14
LETTERS = 35
STYLE = """
text { font-family: system-ui, 'DejaVu Sans', sans-serif; fill: #1c2733; }
.name { font-weight: 600; font-size: 15px; }
.subject { font-size: 11.5px; }
.part rect { stroke: #5b7490; fill: #e4edf7; }
.ros rect { fill: #dff1e3; stroke: #55855f; }
.torch rect { fill: #fbe8d5; stroke: #a8743d; }
path.arrow { stroke: #8391a2; stroke-width: 1.6; fill: none; }
path.head { fill: #8391a2; }
"""

Imports = dict[str, set[str]]


def main() -> None:
    """Write the picture."""
    with replacing(PICTURE) as temporary:
        temporary.write_text(drawing())


def drawing() -> str:
    """Return the SVG, the same for the same code."""
    imports = room_imports()
    if missing := sorted(imports.keys() - PLACES.keys()):
        raise ValueError(f"{', '.join(missing)}: give it a place in PLACES of docs/architecture.py")
    if up := [f"{part} -> {other}" for part, other in pairs(imports) if not _below(other, part)]:
        raise ValueError(f"these imports do not point down, see `make lint`: {', '.join(up)}")
    columns, rows = (max(place[axis] for place in PLACES.values()) for axis in (0, 1))
    width = round(columns * COLUMN + WIDTH + 2 * MARGIN)
    height = rows * ROW + HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f"<style>{STYLE}</style>",
        *arrows(without_detours(imports)),
        *(box(part, subject(part)) for part in sorted(imports)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def room_imports() -> Imports:
    """Return the parts that each part imports, late imports included."""
    graph = grimp.build_graph(
        PACKAGE, "training", exclude_type_checking_imports=True, cache_dir=None
    )
    parts = sorted(graph.find_children(PACKAGE)) + ["training"]
    inside = {part: {part} | graph.find_descendants(part) for part in parts}
    return {
        short(part): {
            short(other)
            for other in parts
            if other != part
            and any(graph.find_modules_directly_imported_by(m) & inside[other] for m in modules)
        }
        for part, modules in inside.items()
    }


def pairs(imports: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return each part with each of the parts it imports."""
    return sorted((part, other) for part in imports for other in imports[part])


def _below(part: str, other: str) -> bool:
    return PLACES[part][1] > PLACES[other][1]


def without_detours(imports: Mapping[str, set[str]]) -> Imports:
    """Return the transitive reduction: no arrow where a longer way of arrows leads."""

    def reached(part: str) -> set[str]:
        return {far for near in imports[part] for far in {near} | reached(near)}

    return {
        part: near - {far for other in near for far in reached(other)}
        for part, near in imports.items()
    }


def arrows(imports: Mapping[str, set[str]]) -> Iterator[str]:
    """Curves from the lower edge of the importing part to the upper edge of the imported one."""
    for part, other in pairs(imports):
        targets = sorted(imports[part], key=lambda name: PLACES[name])
        sources = sorted((r for r in imports if other in imports[r]), key=lambda name: PLACES[name])
        x1, y1 = _port(part, targets.index(other), len(targets))
        x2, y2 = _port(other, sources.index(part), len(sources))
        y1 += HEIGHT
        bend = (y2 - y1) * 0.5
        yield (
            f'<path class="arrow" d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} '
            f'{x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2 - 7:.0f}"/>'
            f'<path class="head" d="M{x2 - 5:.0f} {y2 - 9:.0f} h10 l-5 9 z"/>'
        )


def _port(part: str, index: int, count: int) -> tuple[float, float]:
    """A point on the upper edge of a part, the ports of several arrows apart from each other."""
    x, y = _corner(part)
    return x + WIDTH * (index + 1) / (count + 1), y


def box(part: str, text: str) -> str:
    """Return a part with its name and its subject."""
    x, y = _corner(part)
    kind = {"ros": " ros", "training": " torch"}.get(part, "")
    lines = textwrap.wrap(text, LETTERS)
    subject_lines = "".join(
        f'<text class="subject" x="{x + 10:.0f}" y="{y + 38 + 14 * row:.0f}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    return (
        f'<g class="part{kind}"><rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="6"/><text class="name" x="{x + 10:.0f}" y="{y + 20:.0f}">{part}/</text>'
        f"{subject_lines}</g>"
    )


def _corner(part: str) -> tuple[float, float]:
    column, row = PLACES[part]
    return MARGIN + column * COLUMN, MARGIN + row * ROW


def subject(part: str) -> str:
    """Return the first sentence of a part's docstring."""
    folder = ROOT / ("training" if part == "training" else f"{PACKAGE}/{part}")
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def short(module: str) -> str:
    """Return a part's folder name."""
    return module.removeprefix(f"{PACKAGE}.")


if __name__ == "__main__":
    main()

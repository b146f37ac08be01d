# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown, whatever is in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its lines have no end.

    Args:
        head: titles of the columns.
        rows: cells, which may hold Markdown, but neither HTML nor lines.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)


def _cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|").replace("<", "&lt;")

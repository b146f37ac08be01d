# SPDX-License-Identifier: Apache-2.0
"""What commands print: plain text, and tables of which nothing is cut off.

Names of classes, models and files are printed as they are: neither ``[a]`` nor ``:car:`` has a
meaning of its own. Rich does the rest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from compact_yolo_ros.support.termination import UNREAD, discard_output

_BORDER = 3
"""Columns of the terminal between two columns of a table."""
_FIGURE = re.compile(r"[-+]?[\d.,]+( ?%)?|-|")
"""Cells of a column that is aligned on the right."""

Cell = str | Text


class _Console(Console):
    """Ends the program where its output is no longer read, with the exit code of shells."""

    def on_broken_pipe(self) -> None:
        discard_output()
        raise SystemExit(UNREAD)


def open_console(stderr: bool = False) -> Console:
    """A console on which a text is only a text, and the name of a file its bytes."""
    stream = sys.stderr if stderr else sys.stdout
    # Python prints names that are not UTF-8 in some locales, and fails in most.
    if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="surrogateescape")
    return _Console(stderr=stderr, markup=False, emoji=False)


def say(console: Console, line: str) -> None:
    """Print a line, however long it is: who reads it, or a program, breaks it."""
    console.print(Text(line), soft_wrap=True)


def print_table(
    console: Console, head: Sequence[str], rows: Sequence[Sequence[Cell]], title: str = ""
) -> None:
    """Print a table; if it is too wide, as several below each other.

    Each of them begins with the first column, and with the number of the row where names in it
    are equal. Nothing is cut off: what is wider than the console alone continues in the next line.
    """
    columns = [[_text(row[place]) for row in rows] for place in range(len(head))]
    parts = _parts(head, columns, console.width)
    if len(parts) > 1 and len({cell.plain for cell in columns[0]}) < len(rows):
        columns[0] = [Text(f"{n} ").append(cell) for n, cell in enumerate(columns[0], 1)]
        parts = _parts(head, columns, console.width)
    for number, part in enumerate(parts):
        table = Table(title=Text(title) if title and not number else None, title_justify="left")
        for place, width in part.items():
            figures = place and all(_FIGURE.fullmatch(cell.plain) for cell in columns[place])
            justify: Literal["left", "right"] = "right" if figures else "left"
            table.add_column(Text(head[place]), overflow="fold", justify=justify, width=width)
        for row in zip(*(columns[place] for place in part), strict=True):
            table.add_row(*row)
        console.print(table)


def pairs_table(
    pairs: Sequence[tuple[str, Cell]], title: str = "", width: int | None = None
) -> Table:
    """A table of names and what they have, without a head; cells continue in the next line."""
    columns = Column(overflow="fold", max_width=32), Column(overflow="fold")
    table = Table(*columns, title=Text(title) if title else None, show_header=False, width=width)
    for name, cell in pairs:
        table.add_row(Text(name, style="bold"), _text(cell))
    return table


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _parts(
    head: Sequence[str], columns: Sequence[Sequence[Text]], width: int
) -> list[dict[int, int]]:
    """Number and width of each column, for each of the tables that fit into ``width``."""
    cells = [
        max((cell_len(line) for cell in column for line in cell.plain.split("\n")), default=0)
        for column in columns
    ]
    whole = [max(cell_len(name), cell) for name, cell in zip(head, cells, strict=True)]
    if sum(whole) + _BORDER * len(whole) + 1 <= width:
        return [dict(enumerate(whole))]
    # Titles may be broken between words, cells only where nothing else helps.
    words = (max(map(cell_len, name.split()), default=0) for name in head)
    wanted = [max(pair) for pair in zip(words, cells, strict=True)]
    first = min(wanted[0], width // 3)
    free = max(1, width - first - 2 * _BORDER - 1)
    parts, left = [{0: first}], free
    for place, columns_wanted in enumerate(wanted[1:], 1):
        if columns_wanted > left and len(parts[-1]) > 1:
            parts.append({0: first})
            left = free
        parts[-1][place] = min(columns_wanted, free)
        left -= columns_wanted + _BORDER
    return parts

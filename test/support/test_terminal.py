# SPDX-License-Identifier: Apache-2.0
"""What commands print can be read at 80 columns, and names are what they are."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from compact_yolo_ros.support.markdown import markdown_table
from compact_yolo_ros.support.terminal import open_console, pairs_table, print_table, say

NAMES = ["[/ball]", "ball [a]", "[red]ball", ":car:", "a|b", "[link=x]", "\\[b]"]


def console(width: int = 80) -> Console:
    found = open_console()
    found.file, found.width = io.StringIO(), width
    return found


def printed(place: Console) -> str:
    assert isinstance(place.file, io.StringIO)
    text = place.file.getvalue()
    assert all(cell_len(line) <= place.width for line in text.splitlines())
    return text


def cells(text: str) -> list[list[str]]:
    """The cells of all lines of all tables."""
    rows = [re.split("[│┃]", line)[1:-1] for line in text.splitlines() if line[:1] in "│┃"]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize("width", [80, 120, 40])
def test_a_wide_table_is_several_below_each_other(width: int) -> None:
    head = ["detector", *(f"figure @{n}" for n in range(12))]
    rows = [[f"network_{n}", *(f"{1000 * n + k:,}.{k}" for k in range(12))] for n in range(3)]
    place = console(width)
    print_table(place, head, rows, "Costs [a]")
    text = printed(place)
    assert text.count("Costs [a]") == 1
    found: dict[str, list[str]] = {}
    for name, *figures in cells(text):
        found.setdefault(name, []).extend(figures)
    for row in rows:
        assert found[row[0]] == row[1:], "every figure is whole and in its order"


def test_rows_of_equal_names_are_numbered_where_the_table_is_divided() -> None:
    head, rows = (
        ["model", *"abcdefgh"],
        [["net", *(f"{n}00.00{k}" for k in range(8))] for n in "12"],
    )
    place = console(40)
    print_table(place, head, rows)
    names = [row[0] for row in cells(printed(place))]
    assert names == ["model", "1 net", "2 net"] * (len(names) // 3) and len(names) > 3
    place = console(200)
    print_table(place, head, rows)
    assert [row[0] for row in cells(printed(place))] == ["model", "net", "net"]


def test_a_table_that_fits_is_one_table() -> None:
    place = console()
    print_table(place, ["a", "b"], [["x", "1"], ["y", "-22.5 %"], ["z", ""]])
    assert cells(printed(place)) == [["a", "b"], ["x", "1"], ["y", "-22.5 %"], ["z", ""]]
    assert "│ x │       1 │" in printed(place), "figures are aligned on the right"


def test_a_long_cell_continues_in_the_next_line() -> None:
    place, remark = console(), "why it is so: " * 20
    print_table(place, ["name", "figure", "remark"], [["n" * 100, "1", remark]])
    text = printed(place)
    assert cells(text)[0] == ["name", "figure"]
    first, second = text.split("remark")
    assert first.count("n") - 2 == second.count("n") == 100, (
        "two words aside, the name is whole in both"
    )
    joined = " ".join(row[-1] for row in cells(second))
    assert " ".join(joined.split()).count("why it is so:") == 20


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(name: str) -> None:
    place = console()
    print_table(place, [name, "b"], [[name, name], [Text(name, style="yellow"), name]], name)
    place.print(pairs_table([(name, name)], name))
    say(place, f"{name} is {name}")
    text = printed(place)
    assert text.count(name) == 1 + 1 + 4 + 3 + 2


def test_pairs_keep_their_width_and_lose_nothing() -> None:
    place = console()
    place.print(pairs_table([("k" * 50, "v" * 200), ("state", "")], width=78))
    lines = printed(place).splitlines()
    assert {cell_len(line) for line in lines} == {78}
    assert "".join(lines).count("k") == 50 and "".join(lines).count("v") == 200


def test_a_line_is_not_broken() -> None:
    place = console()
    say(place, "x" * 300)
    assert isinstance(place.file, io.StringIO) and place.file.getvalue() == "x" * 300 + "\n"


texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x3000), max_size=30)


@given(st.lists(st.tuples(texts, texts, texts, texts), max_size=4), st.integers(40, 120))
def test_nothing_is_cut_off(rows: list[tuple[str, ...]], width: int) -> None:
    place = console(width)
    print_table(place, ["first", "second", "third", "fourth"], rows)
    letters = re.sub(r"[^\w]", "", printed(place))
    for row in rows:
        for cell in row:
            for letter in set(re.sub(r"[^\w]", "", cell)):
                assert letter in letters


def test_a_table_in_markdown_keeps_its_columns() -> None:
    text = markdown_table(["a", "b"], [["x|y", "two\nlines"], ["<b>", "1"]])
    assert text.splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y | two lines |",
        "| &lt;b> | 1 |",
    ]


def test_a_name_that_is_not_utf8_is_printed_as_the_bytes_that_it_is() -> None:
    """In the locale of most desktops; with C.UTF-8 Python does so by itself."""
    program = "import os\nfrom compact_yolo_ros.support.terminal import open_console, say\n"
    program += "say(open_console(), os.fsdecode(b'stra\\xdfe.jpg'))"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert (done.returncode, done.stdout) == (0, b"stra\xdfe.jpg\n"), done.stderr

# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON of strangers is plain, finite and bounded, or one sentence says why it is not."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.support import json_files
from compact_yolo_ros.support.document import DocumentError, Limits
from compact_yolo_ros.support.json_files import parse_json, read_json, read_large_json
from compact_yolo_ros.support.yaml_files import parse_yaml, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "more than 100000 values"),
        (MERGES, "more than 100000 values"),
        ("".join(f"- n{n}\n" for n in range(100_000)), "more than 100000 values"),
        ("a: &a [*a]", "its alias 'a' stands for itself"),
        ("a: *b", "undefined alias in line 1, column 4"),
        ("[" * 200_000, "nested deeper than 64"),
        ("- " * 20_000, "nested deeper than 64"),
        ("{a: " * 20_000, "nested deeper than 64"),
        ("#" * 4_000_001, "larger than 4 MB"),
        ("a: .inf", "it has the number inf"),
        ("[-.inf]", "it has the number -inf"),
        (".nan: 1", "it has the number nan"),
        ("a: 1" + ":1" * 500_000, "a number of more than 64 letters"),
        ("a: 1" + "1" * 5_000, "a number of more than 64 letters"),
        ("a: 99999999999999999999", "more than 64 bits"),
        ("a: 0x_", "it is not YAML"),
        ("names: [a]\n'names': [b]", "the key 'names' twice"),
        ("a: {1: x, 1: y}", "the key '1' twice"),
        ("!!python/object/apply:os.system [x]", "it has the tag 'tag:yaml.org.*leave the tag out"),
        ("!!set {a}", "it has the tag"),
        ("? [a]\n: b", "it is not YAML: found unhashable key in line 1"),
        ("- =", "it is not YAML"),
        ("a: [", "it is not YAML: .* in line [12], column"),
        ("a: 1\n---\nb: 1", "another document in line 2"),
        ("a: \x00", "it is not YAML"),
        (b"a: \xff", "it is not YAML"),
    ],
)
def test_yaml_that_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        ("a: 'b\u00e9'".encode("utf-16"), {"a": "b\u00e9"}),
        ("a: 2024-05-01", {"a": "2024-05-01"}),
        ("a: 2024-99-99", {"a": "2024-99-99"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: 1\n'1': 2\n1: 3", {"a": 1, "1": 2, 1: 3}),
        ("a: &a [1, 2]\nb: [*a, *a]", {"a": [1, 2], "b": [[1, 2], [1, 2]]}),
        (
            "a: &a {x: 1, y: 2}\nb: {c: &c {<<: *a, x: 3}}\nd: {<<: *c, y: 4}",
            {"a": {"x": 1, "y": 2}, "b": {"c": {"x": 3, "y": 2}}, "d": {"x": 3, "y": 4}},
        ),
    ],
)
def test_yaml_that_is_read(text: str | bytes, content: Any) -> None:
    assert parse_yaml(text) == content


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_what_fills_the_limits_is_read(parse: Callable[[str, Limits], Any]) -> None:
    limits = Limits(size=14, values=6, depth=3)
    assert parse("[[[1, 2], 34]]", limits) == [[[1, 2], 34]]
    with pytest.raises(DocumentError, match="larger than"):
        parse("[[[1, 2],  34]]", limits)
    with pytest.raises(DocumentError, match="more than 6 values"):
        parse("[[1,2,3,4,5]]", limits)
    with pytest.raises(DocumentError, match="deeper than 3"):
        parse("[[[[1]]]]", limits)
    with pytest.raises(DocumentError, match="more than 6 values"):
        parse('{"a":1,"b":2,"c":3}', Limits(values=6))
    assert parse('{"a":1,"b":2,"c":3}', Limits(values=7)) == {"a": 1, "b": 2, "c": 3}


def test_an_alias_counts_as_what_it_stands_for() -> None:
    text = "[x, x, &a [y, z], *a, &b t, *b]"
    content = ["x", "x", ["y", "z"], ["y", "z"], "t", "t"]
    assert parse_yaml(text, Limits(values=11)) == content
    with pytest.raises(DocumentError, match="more than 10 values"):
        parse_yaml(text, Limits(values=10))


def test_control_characters_are_read_as_tensorrt_writes_them() -> None:
    assert parse_json('{"Layer\t": "a\nb"}') == {"Layer\t": "a\nb"}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_rests_only_while_a_large_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    during = []
    checked = json_files.check_depth
    monkeypatch.setattr(
        json_files, "check_depth", lambda *a: (during.append(gc.isenabled()), checked(*a))
    )
    try:
        (gc.enable if enabled else gc.disable)()
        read_large_json(tmp_path / "x.json")
        assert (during, gc.isenabled()) == ([False], enabled)
    finally:
        gc.enable()


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    assert read_json(tmp_path / "x.json", Limits(size=3)) == [1]
    with pytest.raises(OSError, match="larger than"):
        read_json(tmp_path / "x.json", Limits(size=2))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200_000, "nested deeper than 64"),
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
        ("[" + "0," * 100_000 + "0]", "more than 100000 values"),
        ("[NaN]", "it has the number NaN"),
        ("[-Infinity]", "it has the number -Infinity"),
        ("[1e999]", "it has the number inf"),
        ("[1" + "0" * 5_000 + "]", "more than 64 bits"),
        ("[99999999999999999999]", "more than 64 bits"),
        ("[-9223372036854775809]", "more than 64 bits"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' twice"),
        ("{" + "".join(f'"{n}":0,' for n in range(300_000)) + '"299999":0}', "'299999' twice"),
        ('["\\ud800"]', "half a character"),
        ('{"\\ud800": 1}', "half a character"),
        (b'["\xff"]', "not a text in UTF-8"),
        ('{"a":', "it is not JSON: expecting value in line 1, column 6"),
        ("version https://example.org/spec", "it is not JSON"),
        (" " * 4_000_001, "larger than 4 MB"),
    ],
)
def test_json_that_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
_SCALARS |= st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9
    )
)
def test_what_was_written_is_read(content: Any) -> None:
    assert parse_json(json.dumps(content)) == content
    assert parse_yaml(yaml.safe_dump(content)) == yaml.safe_load(yaml.safe_dump(content))


def test_the_name_of_a_file_in_another_encoding_comes_back() -> None:
    name = os.fsdecode(b"caf\xe9.mcap")
    assert parse_json(json.dumps([name])) == [name]


@given(st.text(alphabet="[]{}&*a: -!'\"?|>%@#<\n0x_.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            parse(text)
        except DocumentError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("read", [read_json, read_yaml, read_large_json])
def test_only_regular_files_are_opened(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**42)
    for read in (read_json, read_yaml, read_large_json):
        with pytest.raises(OSError, match="larger than"):
            read(path)


def test_a_large_file_may_hold_any_number_but_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_text('{"a": [' + "[1, NaN], " * 200_000 + "1e999]}")
    assert len(read_large_json(path)["a"]) == 200_001
    for text, reason in (
        ('{"a": [1], "a": [2]}', "twice"),
        ("[" * 100 + "]" * 100, "deeper"),
        ("[" * 200_000, "deeper"),
        ("[1" + "0" * 5_000 + "]", "more than 64 bits"),
    ):
        path.write_text(text)
        with pytest.raises(DocumentError, match=reason):
            read_large_json(path)

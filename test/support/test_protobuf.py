# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from contextlib import suppress

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from compact_yolo_ros.support.protobuf import WireError, read_fields, write_field

NUMBERS = st.integers(1, 2**29 - 1)
VALUES = st.one_of(st.integers(0, 2**63 - 1), st.binary(max_size=300))


@given(st.lists(st.tuples(NUMBERS, VALUES), max_size=8))
def test_written_fields_are_read_again(pairs: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(write_field(number, value) for number, value in pairs)
    fields = list(read_fields(message))
    assert [(field.number, field.value) for field in fields] == pairs
    assert b"".join(field.encoded for field in fields) == message


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with suppress(WireError):
        assert b"".join(field.encoded for field in read_fields(data)) == data


def test_a_message_that_is_cut_off_is_refused() -> None:
    message = write_field(1, 300) + write_field(2, b"content")
    whole = len(write_field(1, 300))
    for length in set(range(1, len(message))) - {whole}:
        with pytest.raises(WireError):
            list(read_fields(message[:length]))


def test_a_message_of_the_onnx_package_is_read() -> None:
    attribute = helper.make_attribute("alpha", 0.5)  # a name, a 32-bit number, a type
    fields = {field.number: field.value for field in read_fields(attribute.SerializeToString())}
    assert fields == {1: b"alpha", 2: b"\0\0\0\x3f", 20: onnx.AttributeProto.FLOAT}


def test_an_integer_has_no_content() -> None:
    (field,) = read_fields(write_field(3, 7))
    with pytest.raises(WireError, match="not an integer"):
        _ = field.content

# SPDX-License-Identifier: Apache-2.0
"""Words of sentences that depend on values."""

import pytest

from compact_yolo_ros.support.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 views"), (1, "1 view"), (2, "2 views"), (30000, "30,000 views")]
)
def test_a_noun_has_the_number_of_what_is_counted(number: int, text: str) -> None:
    assert counted(number, "view") == text

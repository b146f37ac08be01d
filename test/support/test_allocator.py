# SPDX-License-Identifier: Apache-2.0
"""Freed memory is used again."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOP = """
import resource
from compact_yolo_ros.support.allocator import keep_freed_memory
{keep}
for _ in range(3):
    images = [bytearray(20_000_000) for _ in range(3)]
    for image in images:
        image[::4096] = bytes(len(image[::4096]))
    del image, images
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
images = [bytearray(20_000_000) for _ in range(3)]
for image in images:
    image[::4096] = bytes(len(image[::4096]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: str) -> int:
    command = [sys.executable, "-c", LOOP.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_the_next_image_takes_the_pages_of_the_one_before() -> None:
    assert page_faults("keep_freed_memory()") < page_faults("") / 10

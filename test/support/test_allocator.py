# SPDX-License-Identifier: Apache-2.0
"""Memory that is kept for what comes next, counted by the kernel in a process of its own."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from functools import cache

import pytest

from compact_yolo_ros.support import allocator
from compact_yolo_ros.support.allocator import (
    KEPT,
    give_back_freed_memory,
    keep_all_freed_memory,
    keep_freed_memory,
)

DECODE = """
import ctypes, json, os, resource, sys, tempfile, threading
import cv2, numpy as np
from compact_yolo_ros.support.allocator import give_back_freed_memory, keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def decode(width, height, times):
    pixels = np.zeros((height, width, 3), np.uint8)
    file = cv2.imencode(".jpg", pixels)[1]
    del pixels
    for _ in range(3):
        cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    before = faults()
    for _ in range(times):
        cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    return (faults() - before) / times

def heaps():
    libc, name = ctypes.CDLL(None), os.path.join(tempfile.mkdtemp(), "heaps")
    libc.fopen.restype = ctypes.c_void_p
    report = ctypes.c_void_p(libc.fopen(name.encode(), b"w"))
    libc.malloc_info(0, report)
    libc.fclose(report)
    return open(name).read().count("<heap nr=")

def allocate():
    bytearray(10**6)
    together.wait()

together = threading.Barrier(4)
threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
several_heaps = heaps()
first = resident()
pages = decode(1920, 1080, 5)
huge = decode(6000, 4000, 1)
decode(64, 48, 1)
grown = resident() - first
several = [np.ones(2**23, np.uint8) for _ in range(8)]
del several
full = resident()
give_back_freed_memory()
given_back = full - resident()
figures = {"pages": pages, "grown": grown, "given back": given_back, "heaps": several_heaps}
print(json.dumps(figures))
"""

FEATURE_MAPS = """
import resource, sys
import numpy as np
from compact_yolo_ros.support.allocator import keep_all_freed_memory
if sys.argv[1] == "kept":
    assert keep_all_freed_memory()

def step():
    maps = [np.ones(megabytes * 2**20, np.uint8) for megabytes in (90, 40, 20)]

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@cache
def figures(how: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", DECODE, how], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
class TestGlibc:
    def test_an_image_is_decoded_into_the_pages_of_the_one_before(self) -> None:
        assert figures("kept")["pages"] < 20

    def test_without_it_pages_come_anew(self) -> None:
        """1080p has 1,519 pages of 4 KiB; if this fails, glibc has become better by itself."""
        assert figures("fresh")["pages"] > 500

    def test_after_a_huge_image_no_more_is_kept_than_the_limit(self) -> None:
        slack = 24 * 2**20  # of the decoder and the interpreter
        assert figures("kept")["grown"] < KEPT + slack

    def test_threads_share_one_heap(self) -> None:
        assert figures("kept")["heaps"] == 1 < figures("fresh")["heaps"]

    def test_what_is_free_can_be_given_back(self) -> None:
        assert figures("kept")["given back"] > 32 * 2**20

    def test_large_blocks_are_used_again(self) -> None:
        kept, fresh = (
            int(subprocess.check_output([sys.executable, "-c", FEATURE_MAPS, how]))
            for how in ("kept", "fresh")
        )
        assert kept < 20 < 100 < fresh  # huge pages are 2 MiB


def test_another_c_library_keeps_its_own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory() and not keep_all_freed_memory()
    give_back_freed_memory()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: ctypes.cdll.LoadLibrary("/none"))
    assert not keep_freed_memory()

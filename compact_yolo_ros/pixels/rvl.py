# SPDX-License-Identifier: Apache-2.0
"""RVL, a lossless code of depth images.

Source: A. D. Wilson, "Fast Lossless Depth Image Compression", Interactive Surfaces and Spaces 2017.
Numbers are in pieces of four bits, the highest of which says that another one follows; the lowest
three bits of the number come first. Words of 32 bits, little-endian, hold eight pieces, the first
in the highest bits. The numbers are, over and over: how many pixels are zero, how many are not, and
the differences of these from the one before, 0 to begin with; the sign is in the lowest bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.image_error import damaged, incomplete

MOST_PIXELS = 2**23
"""Largest image (4K): the runs of pixels are followed one by one."""
PIXEL_BYTES = 128
"""Memory that decoding takes for a pixel at most."""
WORST = 3
"""Bytes of a pixel at most, where zeros and others take turns."""
LONGEST = 10
"""Pieces of a number at most: the largest is the number of pixels."""
NAME = "RVL"


def decode_rvl(data: memoryview, count: int) -> NDArray[np.uint16]:
    """The first ``count`` pixels that ``data`` codes.

    Raises:
        ImageError: it codes fewer, or holds what is no RVL.
    """
    numbers = _numbers(data[: WORST * count + 8], 2 * count + 2)
    starts, zeros, others = _runs(numbers.tolist(), count, bytes(data))
    lengths = np.stack([zeros, others], axis=1).reshape(-1)
    is_known = np.repeat(np.tile([False, True], len(starts)), lengths)
    # What follows the two lengths of a run are its differences.
    is_coded = np.ones(starts[-1] + 2 + others[-1], bool)
    is_coded[starts] = is_coded[starts + 1] = False
    coded = numbers[: len(is_coded)][is_coded]
    pixels = np.zeros(count, np.uint16)
    pixels[is_known] = np.cumsum(coded >> 1 ^ -(coded & 1)).astype(np.uint16)
    return pixels


def _numbers(data: memoryview, most: int) -> NDArray[np.int32]:
    """The first numbers that are whole; pieces that fill up the last word are zeros."""
    octets = np.frombuffer(data[: len(data) // 4 * 4], "<u4").byteswap().view(np.uint8)
    pieces = np.stack([octets >> 4, octets & 0xF], axis=1).reshape(-1)
    ends = np.flatnonzero(pieces < 8)[:most].copy()
    if not len(ends):
        return np.zeros(0, np.int32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends + 1 - starts
    longest = int(lengths.max())
    if longest > LONGEST:
        raise damaged(NAME, f"a number has {longest} pieces")
    pieces &= 7
    numbers: NDArray[np.int32] = pieces[starts].astype(np.int32)
    for place in range(1, longest):
        longer = np.flatnonzero(lengths > place)
        numbers[longer] |= pieces[starts[longer] + place].astype(np.int32) << 3 * place
    return numbers


def _runs(
    numbers: list[int], count: int, data: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where each run begins among the numbers, and how many pixels of it are zero and are not."""
    runs, at, done, end = [], 0, 0, len(numbers) - 1
    while done < count:
        if at >= end:
            raise incomplete(NAME, data)
        zeros, others = numbers[at], numbers[at + 1]
        done += zeros + others
        runs.append((at, zeros, others))
        at += 2 + others
        if not others and not zeros:
            raise damaged(NAME, "a run has no pixels")
    if done > count or at > end + 1:
        raise damaged(NAME, "it has more or fewer pixels than its size says")
    starts, zeros_of, others_of = np.array(runs, np.int64).T
    return starts, zeros_of, others_of

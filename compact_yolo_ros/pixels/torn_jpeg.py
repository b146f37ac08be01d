# SPDX-License-Identifier: Apache-2.0
"""Find JPEG images that consist of the pieces of two.

A driver that fills its memory only in part leaves the rest of an older image behind it. Nothing in
the file says so, and the decoder is content; but the pieces hardly ever have as many pixels as one
image. What the decoder has used of the coded pixels is found by decoding a file that has a little
more or less of them. That is done only where the image looks like it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.jpeg_pixels import BLOCK, WHOLE, JpegPixels

_UNCODED = 128
"""Value of a pixel whose coefficients are all zero."""
_MORE = bytes(range(1, 0xFF))
"""Coded pixels to add: not zeros, with which the decoder completes a block."""
_LESS = 16
"""Bytes of coded pixels to take away; cameras leave up to eight that have no meaning."""
_STEP = 3.5
"""Contrast between two rows of blocks, over the usual one: of 3,291 whole photographs 4 percent had
more, of 229 torn ones 95 percent."""
_REDUCED_STEP = 2.75
"""The same in an image of fewer pixels, of which all are looked at: of 498 whole photographs 3 to
13 percent had more, of 412 torn ones 90 to 97."""
_STRIPS, _COLUMNS = 4, 16
"""Parts of the image that are looked at: each row of blocks of a torn image is torn in all."""
_LONGEST_TRUST = 256
"""Most images that are not looked at after one that only looked torn: its edge may stay."""


class TornJpegs:
    """Recognises the torn images of one camera."""

    def __init__(self) -> None:
        """Suspect the first image already."""
        self._trusted = 0
        self._trust = 1

    def is_torn(
        self, file: JpegPixels, end: int, pixels: NDArray[np.uint8], reduction: int = WHOLE
    ) -> bool:
        """Whether the coded pixels of a JPEG are fewer or more than those of the image.

        Args:
            file: with one scan.
            end: where its coded pixels end, in bytes.
            pixels: (H, W) or (H, W, 3) as they were decoded.
            reduction: pixels of the file, along a side, that are one pixel there.
        """
        if self._trusted > 0:
            self._trusted -= 1
            return False
        # The decoder paints what the coded pixels do not reach in one grey.
        early = bool((pixels[-1, -1] == _UNCODED).all())
        late = _has_a_step(pixels, reduction)
        if not (early or late):
            self._trust = 1
            return False
        if late and reduction != WHOLE:  # what changes some of the pixels changes all of them
            late = _ends_late(file, end, pixels, reduction)
        if early or late:
            # Fewer pixels do without much of what is coded: only all of them tell where that ends.
            whole = pixels if reduction == WHOLE else file.decode(WHOLE)
            if whole is None or _is_of_pieces(file, end, whole, early=early, late=late):
                return True
        self._trusted = self._trust
        self._trust = min(2 * self._trust, _LONGEST_TRUST)
        return False


def _is_of_pieces(
    file: JpegPixels, end: int, pixels: NDArray[np.uint8], *, early: bool, late: bool
) -> bool:
    return (early and _ends_early(file, end, pixels)) or (late and _ends_late(file, end, pixels))


def _ends_early(file: JpegPixels, end: int, pixels: NDArray[np.uint8]) -> bool:
    """Whether more coded pixels change the image."""
    data = file.data
    return not _is_decoded_to(pixels, file._replace(data=data[:end] + _MORE + data[end:]))


def _ends_late(
    file: JpegPixels, end: int, pixels: NDArray[np.uint8], reduction: int = WHOLE
) -> bool:
    """Whether the image does without the last coded pixels, if they are more than padding."""
    data = file.data
    if not any(data[end - _LESS : end]):
        return False
    shorter = data[: end - _LESS].removesuffix(b"\xff") + data[end:]
    return _is_decoded_to(pixels, file._replace(data=shorter), reduction)


def _has_a_step(pixels: NDArray[np.uint8], reduction: int) -> bool:
    """Whether two rows of blocks differ much more than other rows do."""
    rows = BLOCK // reduction  # of pixels in a row of blocks
    green = pixels[..., 1] if pixels.ndim == 3 else pixels
    looked_at = _strips(green) if reduction == WHOLE else green
    if len(looked_at) < max(rows, 2) + 2:
        return False
    differences = cv2.absdiff(looked_at[1:], looked_at[:-1])
    contrasts = cv2.reduce(differences, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0]
    inner = contrasts[1:-1]
    ratios = inner / ((contrasts[:-2] + contrasts[2:]) / 2 + 1)
    between = ratios[max(rows - 2, 0) :: rows]
    least = _STEP if reduction == WHOLE else _REDUCED_STEP
    return bool(between.max() > least * np.median(between))


def _strips(green: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Some of the columns (H, W), side by side."""
    lefts = np.linspace(0, max(0, green.shape[1] - _COLUMNS), _STRIPS).astype(int)
    return np.concatenate([green[:, left : left + _COLUMNS] for left in lefts], axis=1)


def _is_decoded_to(pixels: NDArray[np.uint8], file: JpegPixels, reduction: int = WHOLE) -> bool:
    other = file.decode(reduction)
    return other is not None and np.array_equal(pixels, other)

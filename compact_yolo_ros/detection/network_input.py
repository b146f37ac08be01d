# SPDX-License-Identifier: Apache-2.0
"""The input of an open network: which of its sizes an image gets, and how it is filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from time import monotonic
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends import Backend, BackendError, Opened
from compact_yolo_ros.model.sizes import InputSize, Size, fitted, nearest
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.jpeg_pixels import WHOLE
from compact_yolo_ros.pixels.letterbox import Letterbox, Placement
from compact_yolo_ros.pixels.turned_letterbox import TurnedLetterbox

MOST_SIZES = 8
"""Sizes that are kept open where they are opened as images need them: those used last."""
FIRST_WAIT = 60.0
"""Seconds after which a size is tried again that could not be opened; each time twice as many."""
NO_IMAGE = (0, 0)

Reopen = Callable[[tuple[Size, ...]], Opened]
"""Opens the same network at other sizes; raises BackendError or ModelError."""


class _Refusal(NamedTuple):
    """A size could not be opened: for so many seconds, up to a moment of ``monotonic``."""

    seconds: float
    until: float


NOT_REFUSED = _Refusal(FIRST_WAIT / 2, -inf)


class NetworkInput:
    """The sizes of a network, of which one is in use, and the memory that an image is put into.

    For the thread that detects, but for what says otherwise.

    Attributes:
        opened: the network, and why it is this one.
        base: what the sizes are made from now, one of ``bases``.
    """

    def __init__(self, opened: Opened, reopen: Reopen | None) -> None:
        """Use the sizes of ``opened``.

        Args:
            opened: the network.
            reopen: opens sizes that an image needs, at once; None: somebody else does, and calls
                ``use``.
        """
        self._reopen = reopen
        self._used: list[Size] = []
        self._refused: dict[Size, _Refusal] = {}
        self._resized: InputSize | None = None
        self._fits, self._fits_until = NO_IMAGE, inf
        self.use(opened)

    @property
    def backend(self) -> Backend:
        """What the input belongs to."""
        return self.opened.backend

    @property
    def bases(self) -> tuple[InputSize, ...]:
        """What sizes can be made from, the one to begin with first."""
        return self.opened.inputs or tuple(self.backend.sizes)

    @property
    def size(self) -> Size:
        """The one in use."""
        height, width = self.backend.input.shape[1:3]
        return Size(width, height)

    def size_for(self, width: int, height: int) -> Size:
        """The one that an image of so many pixels gets if it is the next one; for any thread."""
        wanted = fitted(self.base, (width, height))
        return wanted if self._can_open(wanted) else nearest(self.backend.sizes, wanted)

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether the size in use is that for images of this width and height."""
        return size == self._fits and monotonic() < self._fits_until

    def fit(self, size: tuple[int, int]) -> None:
        """Use the size for images of this width and height; it may have to be opened."""
        if self.fits(size):
            return
        wanted = fitted(self.base, size)
        if self._can_open(wanted):
            self._keep_open(wanted)
        self.run_at(nearest(self.backend.sizes, wanted))
        refusal = self._refused.get(wanted)
        self._fits, self._fits_until = size, refusal.until if refusal else inf

    def run_at(self, size: Size) -> None:
        """Use one of the sizes that are open, until the next image."""
        self.backend.resize(size)
        self.look()
        self._fits = NO_IMAGE

    def resize(self, base: InputSize) -> None:
        """Make sizes from another one of ``bases``, also those of a network that comes later."""
        self.base = self._resized = base
        self._fits = NO_IMAGE

    def use(self, opened: Opened) -> None:
        """Belong to another network from now on."""
        self.opened = opened
        first = self.size
        self._letterboxes: dict[tuple[int, int], Letterbox] = {}
        self._turned: dict[tuple[int, int], TurnedLetterbox] = {}
        for size in opened.backend.sizes:  # their letterboxes are made now, not with an image
            self.run_at(size)
        self.run_at(first)
        bases = self.bases
        self.base = next((base for base in bases if base == self._resized), bases[0])

    def look(self) -> None:
        """Fill what the backend runs next; it has several inputs where it overlaps runs."""
        self._letterbox = self._letterbox_of(0)

    def fill(self, image: DecodedImage, rotation: int = 0) -> Placement:
        """Put an image into the input; return where it lies.

        Args:
            image: that the size in use fits.
            rotation: degrees clockwise by which it is turned.
        """
        letterbox: Letterbox | TurnedLetterbox = self._letterbox
        if rotation:
            self._letterbox.paint_again()  # the turned image covers the whole input
            letterbox = self._turned_letterbox(rotation)
        return placement_of(image, letterbox(image.pixels, image.colour))

    def copy(self, pixels: NDArray[np.uint8]) -> None:
        """Put what was made elsewhere into the input, which has its size."""
        self._letterbox.paint_again()
        # Unlike numpy's copy, this one keeps other Python threads waiting: they would not let this
        # one go on at once.
        self.backend.input[0].data.cast("B")[:] = pixels.data.cast("B")

    def fill_place(self, image: DecodedImage, place: int) -> Placement:
        """Put an image into a place of a batch; return where it lies in that."""
        return placement_of(image, self._letterbox_of(place)(image.pixels, image.colour))

    def forget(self) -> None:
        """Release what looks at the memory of the backend, so that it can be closed."""
        for name in ("_letterbox", "_letterboxes", "_turned"):
            vars(self).pop(name, None)

    def _can_open(self, size: Size) -> bool:
        refusal = self._refused.get(size, NOT_REFUSED)
        return self._reopen is not None and monotonic() >= refusal.until

    def _keep_open(self, size: Size) -> None:
        """Have a size open, and no others than those used last."""
        assert self._reopen is not None
        self._used = [size, *(other for other in self._used if other != size)][:MOST_SIZES]
        if size in self.backend.sizes:
            return
        try:
            opened = self._reopen(tuple(self._used))
        except (BackendError, ModelError) as error:
            self._used.remove(size)
            seconds = 2 * self._refused.get(size, NOT_REFUSED).seconds
            self._refused[size] = _Refusal(seconds, monotonic() + seconds)
            warning = f"images that {size} would fit have another input: {error}"
            self.opened = replace(self.opened, warning=warning)
        else:
            predecessor = self.backend
            self._refused.pop(size, None)
            self.use(opened)
            predecessor.close()

    def _letterbox_of(self, place: int) -> Letterbox:
        """What fills a place in an input of the backend, which keeps those while it is open."""
        pixels = self.backend.input
        key = id(pixels), place
        if key not in self._letterboxes:
            self._letterboxes[key] = Letterbox(pixels[place], self.backend.card.resize)
        return self._letterboxes[key]

    def _turned_letterbox(self, rotation: int) -> TurnedLetterbox:
        pixels = self.backend.input
        key = id(pixels), rotation
        if key not in self._turned:
            self._turned[key] = TurnedLetterbox(pixels[0], self.backend.card.resize, rotation)
        return self._turned[key]


def placement_of(image: DecodedImage, placement: Placement) -> Placement:
    """Where the camera's image lies, of which ``image`` may have a fraction of the pixels."""
    if image.reduction == WHOLE:
        return placement
    return placement.of_larger(image.size, image.reduction)

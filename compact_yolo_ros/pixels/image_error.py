# SPDX-License-Identifier: Apache-2.0
"""Why the content of an image message or file cannot be used."""

from __future__ import annotations

from typing import Literal

ErrorKind = Literal[
    "encoding", "size", "truncated", "compressed", "header", "malformed", "roi", "video"
]


class ImageError(ValueError):
    """A message or file that holds no usable image.

    Attributes:
        kind: stable name of the failure, for counters.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        """Take the kind and one sentence: what is wrong and what to do."""
        super().__init__(message)
        self.kind = kind


def incomplete(name: str, data: bytes, why: str = "") -> ImageError:
    """The error of a file that lacks a part; ``why`` begins with a verb."""
    reason = f" ({why})" if why else ""
    return ImageError(
        "truncated",
        f"the {name} image of {len(data)} bytes is incomplete{reason}: check the camera and the"
        " transport",
    )


def damaged(name: str, why: str) -> ImageError:
    """The error of a file whose structure is wrong; ``why`` begins with a verb."""
    return ImageError(
        "compressed", f"the {name} image is damaged ({why}): check the camera and its driver"
    )

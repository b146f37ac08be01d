# SPDX-License-Identifier: Apache-2.0
"""Reads all files in JSON, within bounds; see ``document`` for what may be in them."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compact_yolo_ros.support.document import (
    SMALL,
    DocumentError,
    Limits,
    check_content,
    check_depth,
    key_twice,
)
from compact_yolo_ros.support.files import read_file

LARGEST = 4 * 2**30
"""Bytes of a file that ``read_large_json`` reads."""


def read_json(path: Path, limits: Limits = SMALL) -> Any:
    """Read a file.

    Raises:
        OSError: it cannot be read, is no regular file or too large.
        DocumentError: it is not JSON, or beyond the limits.
    """
    return parse_json(read_file(path, limits.size), limits)


def parse_json(text: str | bytes, limits: Limits = SMALL) -> Any:
    """Read a text; control characters need no escape, as in TensorRT's.

    Raises:
        DocumentError: it is not JSON, or beyond the limits.
    """
    limits.check_size(text)
    content = _parse(text, limits, parse_constant=_refuse)
    check_content(content, limits)
    return content


def read_large_json(path: Path) -> Any:
    """Read a file of hundreds of megabytes, fast; see ``read_json`` for the errors.

    Size, depth and keys are checked. A number may be infinite or nan: the caller checks those that
    it uses.
    """
    data = read_file(path, LARGEST)
    with _no_collection():
        content = _parse(data, SMALL)
        check_depth(content, SMALL)
    return content


def _parse(text: str | bytes, limits: Limits, **options: Any) -> Any:
    try:
        return json.loads(text, strict=False, object_pairs_hook=_object, **options)
    except json.JSONDecodeError as error:
        why = f"{error.msg[:1].lower()}{error.msg[1:]}"
        place = f"line {error.lineno}, column {error.colno}"
        raise DocumentError(f"it is not JSON: {why} in {place}") from None
    except UnicodeDecodeError:
        raise DocumentError("it is not JSON: it is not a text in UTF-8") from None
    except RecursionError:
        limits.check_depth(limits.depth + 1)
    except DocumentError:
        raise
    except ValueError:  # Python reads numbers of up to 4,300 digits
        raise DocumentError("it has a whole number of more than 64 bits") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ."""
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise key_twice(next(key for key in content if counts[key] > 1))
    return content


def _refuse(constant: str) -> None:
    raise DocumentError(f"it has the number {constant}: give a finite one")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from going through millions of new values again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

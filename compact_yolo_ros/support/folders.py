# SPDX-License-Identifier: Apache-2.0
"""The files of a folder, also where it links to other folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, also those of folders that it links to.

    Each of these is entered once, whatever leads to it. A link to a folder that holds this one, or
    is in it, is passed over: its files have a path of their own, or do not belong here.
    """
    whole, entered = folder.resolve(), set[Path]()
    for name, inner, files in os.walk(folder, followlinks=True):
        here = Path(name)
        real = here.resolve()
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        yield from (here / file for file in files)
        links = sorted(other for other in inner if (here / other).is_symlink())
        # Folders go before links to them; of several links, the same one is followed always.
        inner[:] = sorted(set(inner).difference(links))
        for link in links:
            target = (here / link).resolve()
            if not (target.is_relative_to(whole) or whole.is_relative_to(target)):
                inner.append(link)

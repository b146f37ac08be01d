# SPDX-License-Identifier: Apache-2.0
"""The engine cache: how much it keeps. What it trusts is in test_tensorrt.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from compact_yolo_ros.backends.engine_cache import EngineCache, EngineKey

KEY = EngineKey("m", "0" * 64, "10.3.0", "12.6", "GPU", "8.7", "fp16", (1, 320, 320, 3), -1)
PLAN = bytes(10_000)


def test_engines_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit=3 * 11_000)
    keys = [replace(KEY, precision=name) for name in ("a", "b", "c", "d")]
    for age, key in zip((300, 200, 100), keys, strict=False):
        path = cache.store(key, PLAN)
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    assert cache.load(keys[0]) == PLAN  # now it was used last
    cache.store(keys[3], PLAN)
    assert [cache.load(key) is not None for key in keys] == [True, False, True, True]


def test_an_engine_larger_than_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit=5_000)
    cache.store(KEY, PLAN)
    other = replace(KEY, gpu="another")
    cache.store(other, PLAN)
    assert (cache.load(KEY), cache.load(other)) == (None, PLAN)

# SPDX-License-Identifier: Apache-2.0
"""The engine cache: what it takes for the same engine, whom it trusts, and how much it keeps.

What it does with damaged files is in test_tensorrt.py.
"""

from __future__ import annotations

import os
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, EngineKey

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


@pytest.mark.parametrize("model", ["m" * 250, "\u00e4" * 125, "\udcff" * 250])
def test_an_engine_of_a_model_with_a_long_name_is_kept(model: str, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    first, second = replace(KEY, model=model), replace(KEY, model=f"{model[:-1]}x")
    cache.store(first, PLAN)
    cache.store_refusal(second, "wrong")
    assert (cache.load(first), cache.load_refusal(second)) == (PLAN, "wrong")
    assert cache.load(second) is None


def test_an_engine_larger_than_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit=5_000)
    cache.store(KEY, PLAN)
    other = replace(KEY, gpu="another")
    cache.store(other, PLAN)
    assert (cache.load(KEY), cache.load(other)) == (None, PLAN)


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_every_part_of_the_key_makes_another_engine(name: str, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.store(KEY, PLAN)
    value = getattr(KEY, name)
    others = {str: "other", int: 0, tuple: (2, *KEY.profile[1:])}
    other = replace(KEY, **{name: others[type(value)]})
    assert (cache.load(KEY), cache.load(other)) == (PLAN, None)
    (file,) = tmp_path.glob("*.engine")
    file.rename(tmp_path / f"{other.name}.engine")  # under its name, it is still another one
    assert cache.load(other) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.store(KEY, PLAN)
    assert cache.load(KEY) == PLAN
    os.chown(path, 4242, 4242)
    assert cache.load(KEY) is None


@pytest.mark.parametrize(
    ("mode", "trusted"),
    [(0o600, True), (0o644, True), (0o400, True), (0o620, False), (0o602, False), (0o666, False)],
)
def test_a_file_that_others_may_write_is_not_trusted(
    tmp_path: Path, mode: int, trusted: bool
) -> None:
    cache = EngineCache(tmp_path)
    path = cache.store(KEY, PLAN)
    cache.store_timing(KEY, b"times")
    for file in (path, tmp_path / KEY.timing_file_name):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(mode)
    assert cache.load(KEY) == (PLAN if trusted else None)
    assert cache.load_timing(KEY) == (b"times" if trusted else b"")


@pytest.mark.parametrize("mount", [{"st_mode": 0o777}, {"st_uid": 4242}], ids=["mode", "owner"])
def test_where_no_file_can_be_trusted_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: dict[str, int]
) -> None:
    """As on a FAT or network drive: engines would be built for minutes at every start."""
    fstat = os.fstat

    def as_mounted(handle: int) -> os.stat_result:
        mode, inode, device, links, user, *others = fstat(handle)
        mode, user = mode | mount.get("st_mode", 0), mount.get("st_uid", user)
        return os.stat_result((mode, inode, device, links, user, *others))

    cache = EngineCache(tmp_path / "engines")
    monkeypatch.setattr(os, "fstat", as_mounted)
    with pytest.raises(BackendError, match="cannot be kept in .* belong to another user, or other"):
        cache.require_writable()
    for keep in (cache.store, cache.store_timing):
        with pytest.raises(OSError, match="belong to another user, or others may write them"):
            keep(KEY, PLAN)
    assert not list(cache.directory.iterdir())


def test_a_link_or_a_pipe_is_no_engine(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.store(KEY, PLAN)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.load(KEY) is None
    path.unlink()
    os.mkfifo(path)
    assert cache.load(KEY) is None  # at once
    cache.store(KEY, PLAN)
    assert cache.load(KEY) == PLAN


def test_an_engine_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    cache = EngineCache(tmp_path / "engines")
    cache.directory.mkdir()
    (cache.directory / f"{KEY.name}.engine").symlink_to(victim)
    stem, process = KEY.name, os.getpid()
    (cache.directory / f".{stem}.{process}.engine").symlink_to(victim)
    cache.store(KEY, PLAN)
    assert victim.read_text() == "precious" and cache.load(KEY) == PLAN


def test_what_a_killed_build_left_goes_in_the_end(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    left = tmp_path / ".unfinished_1"
    left.mkdir()
    (left / f"{KEY.name}.engine").write_bytes(PLAN)
    cache.store(KEY, PLAN)
    assert left.exists()  # it may still be written
    os.utime(left, (0, 0))
    cache.store(KEY, PLAN)
    assert not left.exists()


def test_what_cannot_be_removed_is_left_and_the_rest_goes(tmp_path: Path) -> None:
    """As engines of another user in a folder of several, or a link to a disk that is not there."""
    cache, old = EngineCache(tmp_path, limit=11_000), replace(KEY, gpu="old")
    (tmp_path / "other.engine").mkdir()
    cache.store(old, PLAN)
    (tmp_path / "link.engine").symlink_to(tmp_path / "gone")
    cache.store(KEY, PLAN)
    assert (cache.load(old), cache.load(KEY)) == (None, PLAN)
    assert (tmp_path / "other.engine").is_dir()


def test_a_write_that_fails_leaves_the_engine_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EngineCache(tmp_path)
    cache.store(KEY, PLAN)

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        cache.store(KEY, b"another plan")
    monkeypatch.undo()
    assert cache.load(KEY) == PLAN
    assert len(list(tmp_path.iterdir())) == 1


def test_an_engine_in_a_folder_that_is_only_readable_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EngineCache(tmp_path)
    cache.store(KEY, PLAN)

    def refuse(path: Path, **_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.load(KEY) == PLAN


def test_a_home_folder_is_found_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EngineCache(Path("~/engines")).directory == tmp_path / "engines"
    with pytest.raises(BackendError, match="home folder is not known: set engine_cache"):
        EngineCache(Path("~nobody_of_that_name/engines"))
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody_of_that_name")
    with pytest.raises(BackendError, match="home folder is not known: set engine_cache"):
        EngineCache()

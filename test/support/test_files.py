# SPDX-License-Identifier: Apache-2.0
"""Files are written as a whole, where nobody else can put a link in the way."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from compact_yolo_ros.support.files import UNFINISHED, remove_unfinished, replacing, sha256_of


@pytest.fixture
def common_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_file_appears_as_a_whole_with_the_usual_permissions(
    tmp_path: Path, common_umask: None
) -> None:
    path = tmp_path / "new" / "x.json"
    with replacing(path) as temporary:
        assert (temporary.name, temporary.exists()) == (path.name, False)
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_others_can_neither_foresee_nor_reach_the_place_of_writing(tmp_path: Path) -> None:
    places = []
    for _ in range(2):
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("")
            facts = temporary.parent.stat()
            places.append(temporary.parent)
            assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o700, os.getuid())
            assert temporary.parent.parent == tmp_path
    assert places[0] != places[1]
    assert str(os.getpid()) not in places[0].name.removeprefix(UNFINISHED)


def test_links_that_lie_in_wait_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name is taken, a link of that name is not written through."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    names = iter(["taken", "free"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    (shared / f"{UNFINISHED}taken").symlink_to(tmp_path)
    for name in (f".x.{os.getpid()}.json", ".x.json", "x.json"):
        (shared / name).symlink_to(victim)
    with replacing(shared / "x.json") as temporary:
        temporary.write_text("new")
    assert victim.read_text() == "precious"
    assert (shared / "x.json").read_text() == "new" and not (shared / "x.json").is_symlink()


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{UNFINISHED}{name}").mkdir()
        (tmp_path / f"{UNFINISHED}{name}" / "part").write_text("half of")
    (tmp_path / "kept").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / f"{UNFINISHED}link").symlink_to(outside)
    os.utime(tmp_path / f"{UNFINISHED}old", (0, 0))
    remove_unfinished(tmp_path, seconds=3600)
    assert not (tmp_path / f"{UNFINISHED}old").exists()
    assert (tmp_path / f"{UNFINISHED}new").exists()
    remove_unfinished(tmp_path)
    assert not (tmp_path / f"{UNFINISHED}new").exists()
    assert outside.exists() and (tmp_path / "kept").exists()


def test_a_digest_takes_little_memory_and_is_refused_for_what_is_too_large(tmp_path: Path) -> None:
    path, content = tmp_path / "large.onnx", os.urandom(2**20) * 8 + b"end"
    path.write_bytes(content)
    tracemalloc.start()
    digest = sha256_of(path, len(content))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest == hashlib.sha256(content).hexdigest()
    assert most < len(content) / 4
    with pytest.raises(OSError, match="larger than 8"):
        sha256_of(path, len(content) - 1)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(OSError, match="git lfs pull"):
        sha256_of(path, len(content))

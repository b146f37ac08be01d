# SPDX-License-Identifier: Apache-2.0
"""A count of frames is believed where the container states it, and nowhere else."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.pixels.announced_frames import announced_frames
from compact_yolo_ros.pixels.video_source import street_clip

COUNT = 25


@pytest.fixture(params=["mp4", "mov"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / f"video.{request.param}", "mp4v")


def write(path: Path, codec: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12.5, (64, 48))
    for number in range(COUNT):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return path


def test_the_count_is_that_of_the_index(video: Path) -> None:
    assert announced_frames(video) == COUNT


def test_the_street_clip_announces_what_it_has() -> None:
    """It has B-frames, which are shown later than they are stored."""
    assert announced_frames(street_clip()) == 250


def test_of_other_containers_nothing_is_known(tmp_path: Path) -> None:
    assert announced_frames(write(tmp_path / "video.mkv", "MJPG")) == 0
    (tmp_path / "empty.mp4").touch()
    assert announced_frames(tmp_path / "empty.mp4") == 0


@pytest.mark.parametrize(
    "begin",
    [
        bytes.fromhex("0000000167640015acd940a02e885f5e"),  # a video without a container
        bytes.fromhex("0000000140010c01ffff016000000300"),
        struct.pack(">I4sQ", 1, b"ftyp", 2**64 - 1),  # ends beyond what a file can have
        struct.pack(">I4sQ", 0, b"ftyp", 0),  # has no end
    ],
    ids=["h264", "h265", "large", "endless"],
)
def test_what_is_no_mp4_file_announces_nothing(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "video").write_bytes(begin + street_clip().read_bytes()[32:])
    assert announced_frames(tmp_path / "video") == 0


def test_a_trimmed_file_shows_less_than_it_has(tmp_path: Path) -> None:
    """``ffmpeg -ss 1 -c copy`` leaves the frames before in the file."""
    content = bytearray(street_clip().read_bytes())
    place = content.index(b"elst") + 12
    (duration,) = struct.unpack_from(">I", content, place)
    struct.pack_into(">I", content, place, duration * 4 // 5)
    (tmp_path / "trimmed.mp4").write_bytes(content)
    assert announced_frames(tmp_path / "trimmed.mp4") == 0


@pytest.fixture(params=["MJPG", "XVID"])
def avi(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "video.avi", request.param)


def change(file: Path, after: bytes, place: int, value: int) -> None:
    """Set a number of an AVI file, at some bytes after a name."""
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.index(after) + place, value)
    file.write_bytes(content)


def cut(file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    return file


def overwrite(file: Path) -> Path:
    """Put zeros over some frames in the middle."""
    content = bytearray(file.read_bytes())
    begin, end = content.index(b"movi"), content.index(b"idx1")
    some = range(begin + (end - begin) // 3, begin + (end - begin) // 2)
    content[some.start : some.stop] = bytes(len(some))
    file.write_bytes(content)
    return file


def change_index(file: Path, more: int, dropped: int = 0) -> Path:
    """Move all places in an AVI's index; of the first frames, say that they were dropped."""
    content = bytearray(file.read_bytes())
    index = content.index(b"idx1") + 8
    for entry in range(index, index + 16 * COUNT, 16):
        place, size = struct.unpack_from("<II", content, entry + 8)
        size = 0 if entry < index + 16 * dropped else size
        struct.pack_into("<II", content, entry + 8, place + more, size)
    file.write_bytes(content)
    return file


def test_an_avi_file_announces_only_if_it_is_damaged(avi: Path) -> None:
    assert announced_frames(avi) == 0, "it counts dropped frames"
    content = avi.read_bytes()
    assert announced_frames(cut(avi)) == COUNT
    avi.write_bytes(content)
    assert announced_frames(overwrite(avi)) == COUNT


def test_dropped_frames_are_not_announced(avi: Path) -> None:
    assert announced_frames(change_index(avi, 0, dropped=4)) == 0
    assert announced_frames(overwrite(avi)) == COUNT - 4


def test_places_in_an_index_may_count_from_the_beginning_of_the_file(avi: Path) -> None:
    change_index(avi, avi.read_bytes().index(b"movi"))
    assert announced_frames(avi) == 0
    assert announced_frames(overwrite(avi)) == COUNT


def test_an_index_that_finds_nothing_proves_nothing(avi: Path) -> None:
    assert announced_frames(overwrite(change_index(avi, 2))) == 0


def test_a_recorder_that_died_has_announced_nothing(avi: Path) -> None:
    """What it fills in at the end is not there yet, as in what was written into a pipe."""
    change(avi, b"avih", 24, 0)
    change(avi, b"strh", 40, 2**30)
    change(avi, b"movi", -4, 2**32 - 1)
    assert announced_frames(avi) == 0


@pytest.fixture(params=["MJPG in mkv", "VP80 in webm", "mp4v in mkv"])
def matroska(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, _, suffix = request.param.split()
    return write(tmp_path / f"video.{suffix}", codec)


LENGTH, UNKNOWN = bytes.fromhex("18538067 01"), bytes.fromhex("ff ff ff ff ff ff ff")


def test_a_matroska_file_announces_only_if_it_is_cut_off(matroska: Path) -> None:
    content = matroska.read_bytes()
    assert announced_frames(matroska) == 0, "it counts no frames"
    assert announced_frames(cut(matroska)) == COUNT
    for name in ("4489", "23e383", "83"):  # duration, that of a frame, kind of a track
        element = bytes.fromhex(name)
        matroska.write_bytes(content.replace(element, bytes(len(element) - 1) + b"\x8f"))
        assert announced_frames(cut(matroska)) == 0


def test_a_recorder_of_matroska_that_died_has_announced_nothing(matroska: Path) -> None:
    content = bytearray(matroska.read_bytes())
    place = content.index(LENGTH) + len(LENGTH)
    content[place : place + 7] = UNKNOWN
    matroska.write_bytes(content)
    assert announced_frames(cut(matroska)) == 0


def damage(path: Path, places: st.SearchStrategy[int], data: st.DataObject) -> None:
    """Overwrite four bytes of a file at two of the places, and cut it off somewhere."""
    content = bytearray(path.read_bytes())
    for _ in range(2):
        place = data.draw(places)
        content[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])


@given(data=st.data())
def test_a_damaged_header_of_a_matroska_file_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("damaged") / "video.mkv", "MJPG")
    damage(path, st.integers(0, 700), data)
    assert announced_frames(path) >= 0


@given(data=st.data())
def test_a_damaged_header_of_an_avi_file_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("damaged") / "video.avi", "MJPG")
    index = path.read_bytes().index(b"idx1")
    damage(path, st.one_of(st.integers(0, 400), st.integers(index, index + 100)), data)
    assert announced_frames(path) >= 0


@given(data=st.data())
def test_a_damaged_header_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(street_clip().read_bytes()[-8000:])
    header = bytearray(street_clip().read_bytes()[:48])
    index = content[content.index(b"moov") - 4 :]
    file = header[:32] + index  # a file without its frames
    place = data.draw(st.integers(0, len(file) - 1))
    file[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path_factory.mktemp("damaged") / "video.mp4"
    path.write_bytes(file[: data.draw(st.integers(0, len(file)))])
    assert announced_frames(path) >= 0

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
    assert announced_frames(write(tmp_path / "video.avi", "MJPG")) == 0, "it counts dropped frames"
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

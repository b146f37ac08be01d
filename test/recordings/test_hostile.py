# SPDX-License-Identifier: Apache-2.0
"""Whatever a file claims, reading it takes bounded memory, disk and time."""

from __future__ import annotations

import os
import sqlite3
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import yaml
from bag_writer import START, TOPIC, Recorded, draw_scene, image, storage_file, write_bag

from compact_yolo_ros.labels.coco import read_coco
from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.recordings import compression, mcap, reader, sqlite
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.compression import plain_message, zstd
from compact_yolo_ros.recordings.image_types import IMAGE
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError, Message

SCENES = [draw_scene(number) for number in range(3)]
IMAGES = [image(scene, number) for number, scene in enumerate(SCENES)]
LIMIT = 2**20
ZEROS = bytes(64 * LIMIT)


def packed(size_is_stated: bool) -> bytes:
    """64 MiB of zeros, 6 kB long."""
    if size_is_stated:
        return bytes(zstd().compress(ZEROS))
    compressor = zstd().ZstdCompressor()
    return bytes(compressor.compress(ZEROS) + compressor.flush())


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches quickly."""
    for module in (compression, mcap, sqlite):
        monkeypatch.setattr(module, "MOST_BYTES", LIMIT)
    monkeypatch.setattr(compression, "ALWAYS_UNPACKED", LIMIT)


def peak_of(action) -> int:
    """Most bytes that were allocated at a time."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size_is_stated", [True, False])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_message_that_unpacks_to_gigabytes_is_damaged(
    tmp_path: Path, limited: None, storage: str, size_is_stated: bool
) -> None:
    bomb = Recorded(TOPIC, IMAGE, START - 1, packed(size_is_stated))
    bag = Bag([write_bag(tmp_path / "bag", [bomb, *IMAGES], storage)])
    codec = Codec(bag.topics.values())
    bad, *good = bag.messages([TOPIC])

    def read() -> None:
        with pytest.raises(BagError, match="would have more than"):
            codec.read(bad)

    assert peak_of(read) < 4 * LIMIT
    assert [codec.read(message).width for message in good] == [320] * 3


@pytest.mark.parametrize("cut", [1, -1, -4])
def test_a_compressed_message_must_be_whole_and_alone(cut: int) -> None:
    whole = bytes(zstd().compress(b"message"))
    assert plain_message(whole) == b"message"
    with pytest.raises((ValueError, zstd().ZstdError)):
        plain_message(whole[:cut] if cut < 0 else whole + whole)


def record(code: int, content: bytes) -> bytes:
    return struct.pack("<BQ", code, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def chunked(chunks: list[bytes]) -> bytes:
    """An MCAP file with records outside and inside of chunks, without an index."""
    schema = struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + text("")
    channel = struct.pack("<HH", 1, 1) + text(TOPIC) + text("cdr") + text("")
    head = record(1, text("ros2") + text("")) + record(3, schema) + record(4, channel)
    end = record(15, bytes(4)) + record(2, bytes(20))
    return mcap.MAGIC + head + b"".join(chunks) + end + mcap.MAGIC


def message(data: bytes, time: int = START) -> bytes:
    return record(5, struct.pack("<HIQQ", 1, 0, time, time) + data)


def chunk(content: bytes, kind: str, size: int, time: int = START) -> bytes:
    head = struct.pack("<QQQI", time, time, size, 0)
    return record(6, head + text(kind) + struct.pack("<Q", len(content)) + content)


PACK = {"zstd": zstd().compress, "lz4": lz4.frame.compress}


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("size", [100, len(ZEROS), 2**62])
def test_a_chunk_that_unpacks_to_gigabytes_is_damaged(
    tmp_path: Path, limited: None, kind: str, size: int
) -> None:
    good = message(IMAGES[0].data)
    chunks = [
        chunk(bytes(PACK[kind](ZEROS)), kind, size),
        chunk(bytes(PACK[kind](good)), kind, len(good)),
    ]
    path = tmp_path / "bomb.mcap"
    path.write_bytes(chunked(chunks))
    found: list[Bag] = []
    assert peak_of(lambda: found.append(Bag([path]))) < 8 * LIMIT
    (bag,) = found
    assert [m.data for m in bag.messages([TOPIC])] == [IMAGES[0].data]
    assert any("1 chunks are damaged" in sentence for sentence in bag.lost)


def test_damaged_chunks_without_an_index_are_counted(tmp_path: Path) -> None:
    good = message(IMAGES[0].data)
    path = tmp_path / "drive.mcap"
    path.write_bytes(chunked([chunk(good, "", len(good) + more) for more in (0, 1, 1)]))
    bag = Bag([path])
    assert [m.data for m in bag.messages([TOPIC])] == [IMAGES[0].data]
    assert bag.lost == ["drive.mcap: 2 chunks are damaged, and what they held is lost"]


def test_an_index_without_a_chunk_is_no_message(tmp_path: Path) -> None:
    index = record(7, struct.pack("<HI", 1, 160) + bytes(160))
    path = tmp_path / "drive.mcap"
    for content in ([index, message(IMAGES[0].data)], [message(IMAGES[0].data), index]):
        path.write_bytes(chunked(content))
        bag = Bag([path])
        assert bag.topics[TOPIC].count == len(list(bag.messages([TOPIC]))) == 1


@pytest.mark.parametrize("time", ["x", -5])
def test_messages_without_a_time_are_counted(tmp_path: Path, time: object) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES, "sqlite3")
    with sqlite3.connect(storage_file(folder)) as database:
        database.execute("UPDATE messages SET timestamp = ? WHERE id = 2", (time,))
    database.close()
    bag = Bag([folder])
    assert (bag.start, bag.end) == (IMAGES[0].time, IMAGES[2].time)
    assert [m.data for m in bag.messages([TOPIC])] == [IMAGES[0].data, IMAGES[2].data]
    assert bag.lost == ["bag.db3: 1 messages have no time or topic and are lost"]


def test_a_huge_chunk_or_message_is_not_read(tmp_path: Path, limited: None) -> None:
    huge = message(bytes(2 * LIMIT))
    chunks = [chunk(huge, "", len(huge)), huge, message(IMAGES[0].data, START + 1)]
    path = tmp_path / "huge.mcap"
    path.write_bytes(chunked(chunks))
    found: list[Bag] = []
    assert peak_of(lambda: found.append(Bag([path]))) < LIMIT
    (bag,) = found
    assert peak_of(lambda: list(bag.messages([TOPIC]))) < LIMIT
    assert bag.lost


def test_a_declaration_of_gigabytes_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap, "MOST_DECLARED", 1000)
    path = tmp_path / "declared.mcap"
    huge = record(3, struct.pack("<H", 2) + text("a/b") + text("ros2msg") + text("x" * 2**24))
    path.write_bytes(chunked([message(IMAGES[0].data), huge]))
    bag = Bag([path])
    assert [m.data for m in bag.messages([TOPIC])] == [IMAGES[0].data]
    assert "breaks off" in bag.lost[0]


@pytest.mark.parametrize("code", [mcap.SCHEMA, mcap.CHANNEL])
def test_a_damaged_declaration_costs_its_topic_only(tmp_path: Path, code: int) -> None:
    """In a file without chunks, as rosbag2's preset fastwrite makes it."""
    rows = [mcap.MAGIC]
    for number, topic in enumerate(("/a", "/b", "/c")):
        schema = text("std_msgs/msg/String") + text("ros2msg") + text("string data")
        channel = struct.pack("<H", number) + text(topic) + text("cdr") + bytes(4)
        for kind, content in ((mcap.SCHEMA, schema), (mcap.CHANNEL, channel)):
            if topic == "/b" and kind == code:
                content = content[:2] + b"\xff" * 6  # a text longer than the record
            rows.append(record(kind, struct.pack("<H", number) + content))
    for number in (0, 1, 2):
        head = struct.pack("<HIQQ", number, 0, START, START)
        rows.append(record(mcap.MESSAGE, head + b"\0\1\0\0\2\0\0\0x\0"))
    rows.append(record(mcap.DATA_END, bytes(4)))
    path = tmp_path / "a.mcap"
    path.write_bytes(b"".join(rows))
    bag = Bag([path])
    read = [Codec(bag.topics.values()).read(each).data for each in bag.messages(["/a", "/c"])]
    assert read == ["x", "x"]
    assert bag.lost == ["a.mcap: 1 declarations of types or topics are damaged and lost"]


def test_a_definition_of_megabytes_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_DEFINED", 1000)
    for length, parsed in ((900, True), (1100, False)):
        schema = struct.pack("<H", 2) + text("odd_msgs/msg/Odd") + text("ros2msg")
        schema += text("int8 a\n".ljust(length))
        channel = struct.pack("<HH", 2, 2) + text("/odd") + text("cdr") + text("")
        path = tmp_path / f"{length}.mcap"
        path.write_bytes(chunked([record(3, schema), record(4, channel), message(b"", START)]))
        bag = Bag([path])
        assert bool(bag.topics["/odd"].definition) == parsed
        odd = Message(0, "/odd", "odd_msgs/msg/Odd", b"\0\1\0\0\5")
        if parsed:
            assert Codec(bag.topics.values()).read(odd).a == 5
        else:
            with pytest.raises(BagError, match="a message of /odd cannot be read"):
                Codec(bag.topics.values()).read(odd)


def test_a_blob_of_gigabytes_is_not_read(tmp_path: Path, limited: None) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES, "sqlite3")
    with sqlite3.connect(storage_file(folder)) as database:
        database.execute("UPDATE messages SET data = zeroblob(50000000) WHERE id = 2")
    database.close()
    bag = Bag([folder])
    found: list[bytes] = []
    assert peak_of(lambda: found.extend(m.data for m in bag.messages([TOPIC]))) < 4 * LIMIT
    assert found == [IMAGES[0].data, IMAGES[2].data]
    assert f"1 messages of {TOPIC} are damaged and lost" in bag.lost[0]


def test_a_file_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, limited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 MiB nothing but the first is written, and nothing of it stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    bomb = tmp_path / "drive.mcap.zstd"
    bomb.write_bytes(packed(size_is_stated=False))
    written = []
    copy = compression.shutil.copyfileobj

    def counted(source, out, size) -> None:
        try:
            copy(source, out, size)
        finally:
            written.append(out.tell())

    monkeypatch.setattr(compression.shutil, "copyfileobj", counted)
    with pytest.raises(BagError, match="more than 300 times its size.*`zstd -d .*zstd`"):
        Bag([bomb])
    assert written[0] <= 2 * LIMIT
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_file_of_black_images_is_no_bomb(tmp_path: Path, storage: str) -> None:
    black = replace(SCENES[0], pixels=np.zeros((480, 640, 3), np.uint8))
    messages = [image(black, number) for number in range(40)]
    folder = write_bag(tmp_path / "bag", messages, storage, "file")
    assert storage_file(folder).stat().st_size < 40 * 640 * 480 * 3 / 500
    assert len(list(Bag([folder]).messages([TOPIC]))) == 40


def list_too(folder: Path, *names: str) -> None:
    """Make further files those of a recording."""
    metadata = folder / "metadata.yaml"
    content = yaml.safe_load(metadata.read_text())
    content["rosbag2_bagfile_information"]["relative_file_paths"] += names
    metadata.write_text(yaml.safe_dump(content))


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def link_to_zeros(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("make", [pipe, link_to_zeros])
@pytest.mark.parametrize("name", ["fifo", "fifo.mcap", "fifo.db3", "fifo.mcap.zstd", "fifo.bag"])
@pytest.mark.timeout(60)
def test_a_pipe_or_device_is_not_waited_for(tmp_path: Path, make, name: str) -> None:
    with pytest.raises(BagError, match="is neither a folder nor a regular file"):
        Bag([make(tmp_path / name)])
    (tmp_path / name).rename(tmp_path / "other.mcap")
    with pytest.raises(BagError, match="cannot read .*other.mcap: not a regular file"):
        Bag([tmp_path])
    bag = Bag([write_bag(tmp_path / "bag", IMAGES)])
    make(tmp_path / "bag" / "fifo.mcap")
    make(tmp_path / "bag" / "fifo.db3.zstd")
    list_too(tmp_path / "bag", "fifo.mcap", "fifo.db3.zstd")
    bag = Bag([tmp_path / "bag"])
    assert len(list(bag.messages([TOPIC]))) == 3
    assert sum("not a regular file" in sentence for sentence in bag.lost) == 2


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES)
    (folder / "bag_1.mcap").symlink_to(tmp_path / "gone")
    (folder / "bag_0.mcap").symlink_to(tmp_path / "gone")
    list_too(folder, "bag_0.mcap", "bag_1.mcap")
    bag = Bag([folder])
    assert len(list(bag.messages([TOPIC]))) == 3
    assert sum("No such file" in sentence for sentence in bag.lost) == 2


@pytest.mark.timeout(60)
def test_metadata_in_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES)
    (folder / "metadata.yaml").unlink()
    pipe(folder / "metadata.yaml")
    bag = Bag([folder])
    assert len(list(bag.messages([TOPIC]))) == 3
    assert "metadata.yaml cannot be read" in bag.lost[0]


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "", "/dev/null/bag"])
def test_a_path_that_cannot_be_is_a_sentence(path: str) -> None:
    with pytest.raises(BagError) as error:
        Bag([Path(path, "bag")])
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def pointer(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456789\n")
    return path


@pytest.mark.parametrize("name", ["drive.mcap", "drive.db3", "drive.mcap.zstd", "drive.db3.zstd"])
def test_a_pointer_of_git_lfs_says_what_to_do(tmp_path: Path, name: str) -> None:
    path = pointer(tmp_path / "drive" / name)
    for given in (path, path.parent):
        with pytest.raises(BagError, match=f"cannot read .*{name}: Git .* run `git lfs pull`"):
            Bag([given])


def test_a_split_recording_of_which_git_lfs_has_a_part_is_read(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES)
    pointer(folder / "bag_1.mcap")
    list_too(folder, "bag_1.mcap")
    bag = Bag([folder])
    assert len(list(bag.messages([TOPIC]))) == 3
    assert any("bag_1.mcap: Git" in sentence for sentence in bag.lost)


def test_other_pointers_of_git_lfs_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run `git lfs pull`"):
        find_model(str(pointer(tmp_path / "small.onnx")))
    with pytest.raises((LabelError, OSError), match="run `git lfs pull`"):
        read_coco(pointer(tmp_path / "labels.json"))

# SPDX-License-Identifier: Apache-2.0
"""Recordings of every form give the same messages; of damaged ones what is whole, and it is said
what is not."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_writer import (
    CODEC,
    PERIOD,
    START,
    TOPIC,
    Recorded,
    compressed,
    draw_scene,
    image,
    labelled,
    storage_file,
    write_bag,
    write_damaged_bag,
    write_file,
    write_split_bag,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import Reader

from compact_yolo_ros.recordings import compression
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.compression import zstd
from compact_yolo_ros.recordings.reader import PAUSE, Bag, choose_topics
from compact_yolo_ros.recordings.storage import BagError, Message, Topic, in_time_order
from compact_yolo_ros.support.pip import pip_line

FRAMES = 8
SCENES = [draw_scene(number) for number in range(FRAMES)]
MESSAGES = [
    message
    for number, scene in enumerate(SCENES)
    for message in (image(scene, number), labelled(scene, number), compressed(scene, number))
]
FORMS = [
    ("mcap", "none"),
    ("mcap", "file"),
    ("mcap", "message"),
    ("mcap", "storage"),
    ("sqlite3", "none"),
    ("sqlite3", "file"),
    ("sqlite3", "message"),
]
IMAGES = [message for message in MESSAGES if message.topic == TOPIC]


def times(bag: Bag, *topics: str) -> list[int]:
    return [message.time for message in bag.messages(topics or (TOPIC,))]


@pytest.mark.parametrize(("storage", "compression"), FORMS)
def test_every_form_gives_what_was_written(tmp_path: Path, storage: str, compression: str) -> None:
    bag = Bag([write_bag(tmp_path / "bag", MESSAGES, storage, compression)])
    assert {name: topic.count for name, topic in bag.topics.items()} == {
        TOPIC: FRAMES,
        "/truth": FRAMES,
        f"{TOPIC}/compressed": FRAMES,
    }
    codec = Codec(bag.topics.values())
    read = list(bag.messages([TOPIC, "/truth"]))
    expected = sorted((m for m in MESSAGES if m.topic in (TOPIC, "/truth")), key=lambda m: m.time)
    assert [(m.time, m.topic, m.type) for m in read] == [
        (m.time, m.topic, m.type) for m in expected
    ]
    first = codec.read(next(m for m in read if m.topic == TOPIC))
    assert np.array_equal(first.data.reshape(SCENES[0].pixels.shape), SCENES[0].pixels)
    assert bag.lost == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_range_of_time_is_half_open(tmp_path: Path, storage: str) -> None:
    bag = Bag([write_bag(tmp_path / "bag", IMAGES, storage)])
    third, fifth = IMAGES[3].time, IMAGES[5].time
    assert [m.time for m in bag.messages([TOPIC], third, fifth)] == [third, IMAGES[4].time]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_split_files_without_metadata_are_one_recording(tmp_path: Path, storage: str) -> None:
    parts = [IMAGES[:3], IMAGES[3:6], IMAGES[6:]]
    folder = write_split_bag(tmp_path / "split", parts, storage)
    bag = Bag([folder])
    assert times(bag) == [message.time for message in IMAGES]
    assert "no metadata.yaml" in bag.lost[0]


def slow(first: int, count: int) -> list[Recorded]:
    """Images with ten seconds between them."""
    return [replace(IMAGES[0], time=START + n * 10**10) for n in range(first, first + count)]


def test_files_of_one_folder_are_one_recording_however_far_apart_they_are(tmp_path: Path) -> None:
    split = write_split_bag(tmp_path / "split", [slow(0, 3), slow(3, 3)], "mcap")
    later = write_bag(tmp_path / "later", slow(9, 2))
    assert Bag([later, split]).recordings == [
        (START, START + 5 * 10**10 + 1),
        (START + 9 * 10**10, START + 10**11 + 1),
    ]


@pytest.mark.parametrize(("pause", "recordings"), [(0, 1), (PAUSE - 1, 1), (PAUSE, 2)])
def test_recordings_that_follow_each_other_at_once_are_one(
    tmp_path: Path, pause: int, recordings: int
) -> None:
    times = (START, START + 1 + pause)
    paths = [write_bag(tmp_path / f"{time}", [replace(IMAGES[0], time=time)]) for time in times]
    assert len(Bag(paths).recordings) == recordings


@pytest.mark.parametrize(
    "metadata",
    [
        "a: &a [x, x]\n" + "".join(f"- &a{n} [*a, *a]\n" for n in range(3)),
        "rosbag2_bagfile_information: &a {topics_with_message_count: *a}",
        "rosbag2_bagfile_information: " + "[" * 20_000,
        "rosbag2_bagfile_information: {version: .inf}",
        "rosbag2_bagfile_information: {topics_with_message_count: 5, relative_file_paths: 5}",
        "rosbag2_bagfile_information: {topics_with_message_count: [.5], relative_file_paths: []}",
    ],
)
def test_hostile_metadata_is_ignored_and_told(tmp_path: Path, metadata: str) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES, "sqlite3")
    (folder / "metadata.yaml").write_text(metadata)
    bag = Bag([folder])
    assert times(bag) == [message.time for message in IMAGES]
    assert "metadata.yaml cannot be read" in bag.lost[0]


def test_a_single_file_and_several_recordings_are_read_in_time_order(tmp_path: Path) -> None:
    first = write_bag(tmp_path / "first", IMAGES[::2], "mcap")
    second = write_bag(tmp_path / "second", IMAGES[1::2], "sqlite3")
    bag = Bag([storage_file(second), first])
    assert times(bag) == [message.time for message in IMAGES]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("part", [0.4, 0.95])
def test_of_a_file_that_breaks_off_the_beginning_is_read(
    tmp_path: Path, storage: str, part: float
) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES, storage)
    write_file(folder, lambda content: content[: int(part * len(content))])
    bag = Bag([folder])
    read = list(bag.messages([TOPIC]))
    # An image is an eighth of the file; at most two are at the edge.
    assert int(part * FRAMES) - 1 <= len(read) <= FRAMES - (part < 0.9)
    assert [m.data for m in read] == [m.data for m in IMAGES[: len(read)]]
    assert "breaks off" in bag.lost[0] or "damaged and lost" in bag.lost[0]
    assert bag.expected[TOPIC] == FRAMES


def indexes_of(content: bytes) -> list[int]:
    """Where the records of an MCAP file begin that say what is in a chunk."""
    found, place = [], 8
    while place < len(content) - 8:
        code, length = struct.unpack_from("<BQ", content, place)
        if code == 7:
            found.append(place)
        place += 9 + length
    return found


@pytest.mark.parametrize("compression", ["none", "storage"])
def test_a_whole_chunk_is_read_where_its_index_breaks_off(tmp_path: Path, compression: str) -> None:
    messages = sorted((m for m in MESSAGES if m.topic in (TOPIC, "/truth")), key=lambda m: m.time)
    folder = write_bag(tmp_path / "bag", messages, "mcap", compression)
    file = storage_file(folder)
    content = file.read_bytes()
    # Each chunk has two; the last one is followed by what closes the file.
    *_, first, second = indexes_of(content)
    for cut in (first, first + 5, second, second + 5):
        file.write_bytes(content[:cut])
        bag = Bag([folder])
        assert {name: topic.count for name, topic in bag.topics.items()} == bag.expected
        read = [(m.time, m.topic) for m in bag.messages([TOPIC, "/truth"])]
        assert read == [(m.time, m.topic) for m in messages]
        assert "breaks off" in bag.lost[0] and len(bag.lost) == 1


def test_messages_right_behind_a_chunk_without_an_index_are_read(tmp_path: Path) -> None:
    """A writer may leave out the indexes, and write some messages outside of chunks."""
    folder = write_bag(tmp_path / "bag", IMAGES[:2])

    def rewrite(content: bytes) -> bytes:
        place = indexes_of(content)[0]
        (number,) = struct.unpack_from("<H", content, place + 9)
        head = struct.pack("<HIQQ", number, 2, IMAGES[2].time, IMAGES[2].time)
        record = head + IMAGES[2].data
        return content[:place] + struct.pack("<BQ", 5, len(record)) + record

    write_file(folder, rewrite)
    bag = Bag([folder])
    assert bag.topics[TOPIC].count == 3
    assert [m.data for m in bag.messages([TOPIC])] == [m.data for m in IMAGES[:3]]


def test_a_compressed_file_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = [
        Recorded(m.topic, m.type, m.time, m.data[:-100_000] + random.bytes(100_000)) for m in IMAGES
    ]
    folder = write_bag(tmp_path / "bag", noise, "mcap", "file")
    write_file(folder, lambda content: content[: len(content) // 2])
    bag = Bag([folder])
    read = times(bag)
    assert read == [message.time for message in noise[: len(read)]]
    assert 1 <= len(read) < FRAMES
    assert any("tail is lost" in sentence for sentence in bag.lost)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damage_in_the_middle_costs_only_what_it_hit(tmp_path: Path, storage: str) -> None:
    folder = write_bag(
        tmp_path / "bag", IMAGES, storage, "storage" if storage == "mcap" else "none"
    )
    middle = IMAGES[4].data[-5000:] if storage == "sqlite3" else None

    def hurt(content: bytes) -> bytes:
        place = content.index(middle) if middle else len(content) // 2
        return content[:place] + b"\xff" * 64 + content[place + 64 :]

    write_file(folder, hurt)
    bag = Bag([folder])
    assert 0 < len(times(bag)) <= FRAMES
    if storage == "mcap":
        assert len(times(bag)) < FRAMES
        assert "damaged chunk" in bag.lost[0]


@pytest.mark.parametrize(("storage", "compression"), [("mcap", ""), ("sqlite3", ""), ("mcap", "x")])
def test_what_is_lost_is_counted_once_in_one_sentence(
    tmp_path: Path, storage: str, compression: str
) -> None:
    folder = write_damaged_bag(tmp_path / "bag", storage, [6, 13, 30])
    if compression:
        file = storage_file(folder)
        file.with_name(f"{file.name}.zstd").write_bytes(zstd().compress(file.read_bytes()))
        file.unlink()
    bag = Bag([folder])
    assert bag.lost == []
    read = times(bag)
    lost = 40 - len(read)
    assert lost == (3 if storage == "sqlite3" else 12)
    for edges in (range(0, 41, 2), range(0, 41, 7)):
        moments = [START + n * PERIOD for n in edges]
        for span in itertools.pairwise(moments):
            list(bag.messages([TOPIC], *span))
    how = "lost in damaged chunks" if storage == "mcap" else "damaged and lost"
    assert bag.lost == [f"{storage_file(folder).name}: {lost} messages of {TOPIC} are {how}"]


def test_losses_of_files_of_one_name_are_told_of_each(tmp_path: Path) -> None:
    folders = [
        write_damaged_bag(tmp_path / day / "bag", "sqlite3", [3], 8) for day in ("one", "two")
    ]
    bag = Bag(folders)
    assert len(times(bag)) == 14
    assert bag.lost == [f"bag.db3: 1 messages of {TOPIC} are damaged and lost"] * 2


def test_zeros_at_the_end_as_after_a_power_cut_are_no_messages(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES)
    write_file(folder, lambda content: content[: len(content) // 2] + bytes(5000))
    bag = Bag([folder])
    assert 2 <= len(times(bag)) <= 4
    assert "breaks off" in bag.lost[0]


@settings(max_examples=25)
@given(data=st.data())
def test_no_damage_to_a_file_ends_in_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    small = [labelled(scene, number) for number, scene in enumerate(SCENES)]
    storage = data.draw(st.sampled_from(["mcap", "sqlite3"]))
    folder = write_bag(tmp_path_factory.mktemp("damaged") / "bag", small, storage)

    def hurt(content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(changed) - 1))
            changed[place] = data.draw(st.integers(0, 255))
        return bytes(changed[: data.draw(st.integers(0, len(changed)))])

    write_file(folder, hurt)
    try:
        bag = Bag([folder])
        for message in bag.messages(list(bag.topics)):
            CODEC.read(message)
    except BagError as error:
        assert "\n" not in str(error)


def test_our_reading_of_mcap_is_that_of_rosbags(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", MESSAGES, "mcap", "storage")
    with Reader(folder) as reader:
        theirs = [(time, c.topic, bytes(data)) for c, time, data in reader.messages()]
    bag = Bag([folder])
    ours = [(m.time, m.topic, m.data) for m in bag.messages(list(bag.topics))]
    assert sorted(ours) == sorted(theirs)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), max_size=6))
def test_parts_are_merged_in_time_order_and_opened_late(parts: list[list[int]]) -> None:
    opened: list[int] = []

    def part(number: int, stamps: list[int]):
        opened.append(number)
        return (Message(time, "", "", b"") for time in stamps)

    sources = [sorted(stamps) for stamps in parts]
    starts = sorted(stamps[0] for stamps in sources)
    merged = in_time_order(
        (stamps[0], lambda n=n, s=stamps: part(n, s)) for n, stamps in enumerate(sources)
    )
    found = []
    for message in merged:
        found.append(message.time)
        # what is open began before the message that comes next, or is that message's part
        assert len(opened) <= sum(start <= message.time for start in starts) + 1 + len(
            [start for start in starts if start == message.time]
        )
    assert found == sorted(time for stamps in sources for time in stamps)


def test_the_topic_is_the_only_one_of_images_or_the_given_one(tmp_path: Path) -> None:
    alone = Bag([write_bag(tmp_path / "alone", [*IMAGES, labelled(SCENES[0], 0)])])
    assert choose_topics(alone, []) == [TOPIC]
    both = Bag([write_bag(tmp_path / "both", MESSAGES)])
    assert choose_topics(both, [f"{TOPIC}/compressed"]) == [f"{TOPIC}/compressed"]
    listing = f"{TOPIC} (8 images), {TOPIC}/compressed (8 images)"
    for names, sentence in (
        ([], "choose a topic"),
        (["/nowhere"], "no topic /nowhere"),
        (["/truth"], "is vision_msgs/msg/Detection2DArray, not images"),
    ):
        with pytest.raises(BagError, match=sentence) as error:
            choose_topics(both, names)
        assert listing in str(error.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no recording"),
        (lambda path: path.mkdir(), "holds no .mcap or .db3 files"),
        (lambda path: path.with_suffix(".bag").write_bytes(b"#ROSBAG"), "rosbags-convert"),
        (lambda path: path.with_suffix(".mcap").write_bytes(b"nothing"), "is not an MCAP file"),
        (lambda path: path.with_suffix(".db3").write_bytes(b"nothing" * 99), "is not a recording"),
        (lambda path: path.with_suffix(".txt").touch(), "does not end in .mcap or .db3"),
    ],
)
def test_something_else_than_a_recording_is_one_sentence(
    tmp_path: Path, make, sentence: str
) -> None:
    make(tmp_path / "bag")
    (path,) = tmp_path.iterdir() if any(tmp_path.iterdir()) else [tmp_path / "bag"]
    with pytest.raises(BagError, match=sentence):
        Bag([path])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_folder_whose_name_is_not_utf_8_is_read(tmp_path: Path, storage: str) -> None:
    written = write_bag(tmp_path / "bag", IMAGES[:2], storage)
    folder = tmp_path / os.fsdecode(b"l\xe4t #1%41")
    written.rename(folder)
    assert len(list(Bag([folder]).messages([TOPIC]))) == 2


def test_the_line_that_converts_a_recording_holds_a_path_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / "my drive.bag"
    path.write_bytes(b"#ROSBAG")
    line = re.escape(f"`rosbags-convert --src '{path}' --dst 'my drive'`")
    with pytest.raises(BagError, match=line):
        Bag([path])


def test_a_missing_file_of_a_split_recording_is_named(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES)
    other = write_bag(tmp_path / "other", IMAGES[:3])
    storage_file(folder).unlink()
    shutil.copy(storage_file(other), folder)
    bag = Bag([folder])
    assert "bag: the file bag.mcap is missing" in bag.lost
    assert len(times(bag)) == 3


@pytest.mark.parametrize("listed", ["bag.db3", "bag/bag.db3", "bag\\\\bag.db3"])
def test_a_file_beside_a_recording_that_is_none_of_it_is_left_out(
    tmp_path: Path, listed: str
) -> None:
    """As a converted copy: its images would count twice. Old recorders list files with a folder."""
    folder = write_bag(tmp_path / "bag", IMAGES, "sqlite3")
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("bag.db3", listed))
    copy = write_bag(tmp_path / "copy", IMAGES)
    storage_file(copy).rename(folder / "copy.mcap")
    for named in (folder, metadata):
        bag = Bag([named])
        assert times(bag) == [message.time for message in IMAGES]
        assert bag.topics[TOPIC].count == bag.expected[TOPIC] == FRAMES
        assert bag.lost == ["bag: copy.mcap is left out, since metadata.yaml does not list it"]
    assert len(times(Bag([folder / "copy.mcap"]))) == FRAMES  # it is read where it is given


def test_where_no_listed_file_is_there_others_are_read(tmp_path: Path) -> None:
    """They have other names since."""
    folder = write_bag(tmp_path / "bag", IMAGES)
    storage_file(folder).rename(folder / "drive.mcap")
    bag = Bag([folder])
    assert times(bag) == [message.time for message in IMAGES]
    assert bag.lost == ["bag: the file bag.mcap is missing"]


def test_without_rosbags_the_command_to_install_it_is_given(monkeypatch) -> None:
    monkeypatch.setattr(compression, "find_spec", lambda name: None)
    with pytest.raises(BagError, match=re.escape(f": {pip_line('rosbags')}")):
        Bag([Path("bag")])


def test_what_a_crashed_recorder_left_in_its_journal_is_read(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", IMAGES[:4], "sqlite3")
    (folder / "metadata.yaml").unlink()
    with sqlite3.connect(storage_file(folder)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)",
            (IMAGES[4].time, IMAGES[4].data),
        )
        database.commit()
        copy = tmp_path / "crashed"
        shutil.copytree(folder, copy)
    database.close()
    assert times(Bag([copy])) == [message.time for message in IMAGES[:5]]


def test_a_message_of_an_unknown_type_does_not_disturb(tmp_path: Path) -> None:
    strange = Recorded("/strange", "std_msgs/msg/String", START, b"\0\1\0\0\1\0\0\0\0")
    bag = Bag([write_bag(tmp_path / "bag", [strange, *IMAGES])])
    assert len(times(bag)) == FRAMES
    with pytest.raises(BagError, match="a message of /odd cannot be read"):
        Codec().read(Message(0, "/odd", "odd_msgs/msg/Odd", b"\0\1\0\0"))


def test_recordings_that_define_a_type_otherwise_are_read_by_their_own_definition() -> None:
    kind, data = "odd_msgs/msg/Odd", bytes((0, 1, 0, 0, 1, 0, 0, 0))
    for definition, expected in (("int32 value", 1), ("uint8[4] value", [1, 0, 0, 0])):
        topics = [Topic("/odd", kind, 1, definition)]
        codec, again = Codec(topics), Codec(topics)
        assert codec.store is again.store, "what was compiled is used again"
        for each in (codec, again):
            assert np.array_equal(each.read(Message(0, "/odd", kind, data)).value, expected)


def test_detections_are_written_as_the_node_writes_them() -> None:
    scene = draw_scene(3, 1)
    message = CODEC.read(Message(0, "/t", labelled(scene, 2).type, labelled(scene, 2).data))
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == START + 2 * PERIOD
    (detection,) = message.detections
    (x1, y1, x2, y2) = scene.boxes[0]
    centre = detection.bbox.center.position
    assert (centre.x, centre.y) == ((x1 + x2) / 2, (y1 + y2) / 2)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (x2 - x1, y2 - y1)
    assert detection.results[0].hypothesis.class_id in ("red", "green", "blue")
    assert detection.header.frame_id == "camera"

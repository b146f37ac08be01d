# SPDX-License-Identifier: Apache-2.0
"""Recordings of drawn pictures whose objects are known, for the toy detector."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from toy_model import CELL, CLASSES

from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE

START = 1_700_000_000 * 10**9
PERIOD = 10**8
"""Ten images a second, in ns."""
SIZE = 320
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
TOPIC = "/camera/image_raw"


@dataclass(frozen=True)
class Scene:
    """A picture (RGB) and what is in it: boxes xyxy in pixels and labels of the toy detector."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]


def draw_scene(number: int, objects: int = 3) -> Scene:
    """Bright squares of a cell each on black, others for every number."""
    random = np.random.default_rng(number)
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    cells = random.choice((SIZE // CELL) ** 2, objects, replace=False)
    labels = random.integers(0, len(CLASSES), objects)
    boxes = []
    for cell, label in zip(cells, labels, strict=True):
        y, x = CELL * np.array(divmod(int(cell), SIZE // CELL))
        pixels[y : y + CELL, x : x + CELL, label] = random.integers(100, 255)
        boxes.append((x, y, x + CELL, y + CELL))
    return Scene(pixels, np.array(boxes, np.float32).reshape(-1, 4), labels.astype(np.int32))


@dataclass(frozen=True)
class Recorded:
    """A message to be written: topic, type, time in ns, bytes, and what they are."""

    topic: str
    type: str
    time: int
    data: bytes
    encoding: str = "cdr"


CODEC = Codec()


def image(scene: Scene, number: int, topic: str = TOPIC, delay: int = 5_000_000) -> Recorded:
    """An Image that is received ``delay`` ns after its stamp."""
    stamp = START + number * PERIOD
    height, width = scene.pixels.shape[:2]
    make = CODEC.store.types
    message = make[IMAGE](
        header_of(stamp), height, width, "rgb8", 0, 3 * width, scene.pixels.reshape(-1)
    )
    return Recorded(topic, IMAGE, stamp + delay, bytes(CODEC.store.serialize_cdr(message, IMAGE)))


def compressed(scene: Scene, number: int, topic: str = f"{TOPIC}/compressed") -> Recorded:
    """A CompressedImage that holds a PNG, so that nothing changes."""
    stamp = START + number * PERIOD
    content = cv2.imencode(".png", np.ascontiguousarray(scene.pixels[..., ::-1]))[1].reshape(-1)
    message = CODEC.store.types[COMPRESSED_IMAGE](header_of(stamp), "rgb8; png compressed", content)
    data = bytes(CODEC.store.serialize_cdr(message, COMPRESSED_IMAGE))
    return Recorded(topic, COMPRESSED_IMAGE, stamp, data)


def labelled(scene: Scene, number: int, topic: str = "/truth", late: int = 0) -> Recorded:
    """The scene's objects as a Detection2DArray, ``late`` ns after the image."""
    stamp = START + number * PERIOD + late
    found = Detections(scene.boxes, np.ones(len(scene.boxes), np.float32), scene.labels)
    data = CODEC.write_detections(stamp, "camera", found, CLASSES)
    return Recorded(topic, DETECTION_ARRAY, stamp, data)


def write_bag(
    path: Path,
    messages: Iterable[Recorded],
    storage: str = "mcap",
    compression: str = "none",
    chunked: bool = True,
) -> Path:
    """Write a recording as ros2 bag does, with metadata.yaml."""
    writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
    if compression != "none":
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for message in messages:
            if message.topic not in connections:
                known = {"typestore": CODEC.store}
                if message.type not in CODEC.store.fielddefs:
                    known = {"msgdef": "", "rihs01": "RIHS01_0"}
                connections[message.topic] = writer.add_connection(
                    message.topic,
                    message.type,
                    serialization_format=message.encoding,
                    **known,
                )
            writer.write(connections[message.topic], message.time, message.data)
    return path


def write_labelled_bag(path: Path, count: int) -> Path:
    """Write a recording of ``count`` scenes and, on the topic /truth, what is in them."""
    messages = []
    for number in range(count):
        scene = draw_scene(number)
        messages += [image(scene, number), labelled(scene, number)]
    return write_bag(path, sorted(messages, key=lambda message: message.time))


def write_split_bag(path: Path, parts: Sequence[Sequence[Recorded]], storage: str) -> Path:
    """Write a recording of several files, without metadata.yaml: that of the recorder is one."""
    path.mkdir(parents=True)
    for number, part in enumerate(parts):
        whole = write_bag(path.with_name(f"{path.name}_{number}"), part, storage)
        (source,) = (file for file in whole.iterdir() if file.suffix in (".mcap", ".db3"))
        source.rename(path / f"{path.name}_{number}{source.suffix}")
    return path


def storage_file(bag: Path) -> Path:
    """The only file of a recording that holds messages."""
    (found,) = (file for file in bag.iterdir() if file.name != "metadata.yaml")
    return found


def write_file(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    """Change the bytes of a recording's only file, as a crash or a bad disk would."""
    path = storage_file(folder)
    path.write_bytes(change(path.read_bytes()))
    return path


def write_damaged_bag(path: Path, storage: str, numbers: Sequence[int], count: int = 40) -> Path:
    """Write images of which some are damaged: in SQLite they, in MCAP all four of their chunk."""
    images = [image(draw_scene(number % 8), number) for number in range(count)]
    folder = write_bag(path, images, storage)
    if storage == "sqlite3":
        with sqlite3.connect(storage_file(folder)) as database:
            rows = ((number + 1,) for number in numbers)
            database.executemany("UPDATE messages SET data = 'x' WHERE id = ?", rows)
        database.close()
        return folder

    def hurt(content: bytes) -> bytes:
        changed = bytearray(content)
        for number in numbers:
            # the length that its record is said to have
            changed[content.index(images[number].data) - 23] = 255
        return bytes(changed)

    write_file(folder, hurt)
    return folder


def header_of(stamp: int):
    make = CODEC.store.types
    return make["std_msgs/msg/Header"](
        make["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), "camera"
    )


def foxglove_image(
    scene: Scene, stamp: int, topic: str = TOPIC, frame_id: str = "camera", delay: int = 0
) -> Recorded:
    """Foxglove's RawImage in JSON, recorded some nanoseconds after its stamp."""
    height, width = scene.pixels.shape[:2]
    content = {
        "timestamp": {"sec": stamp // 10**9, "nsec": stamp % 10**9},
        "frame_id": frame_id,
        "width": width,
        "height": height,
        "encoding": "rgb8",
        "step": 3 * width,
        "data": base64.b64encode(scene.pixels.tobytes()).decode(),
    }
    data = json.dumps(content).encode()
    return Recorded(topic, "foxglove.RawImage", stamp + delay, data, "json")

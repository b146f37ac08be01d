# SPDX-License-Identifier: Apache-2.0
"""CPU time of a picture that comes as H.264 or H.265, beside the same picture as JPEG.

    python test/benchmarks/video.py [rounds]

The pictures are those of the street clip, enlarged. Needs PyAV with the encoders libx264, libx265.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from types import SimpleNamespace

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from encoded_video import encode

from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.pixels.video_packets import VideoPacket
from compact_yolo_ros.pixels.video_source import open_source
from compact_yolo_ros.pixels.video_stream import PictureConverter, VideoStream

SIZES = ((1280, 720), (1920, 1080))
PICTURES = 30
RATES = {(1280, 720): "4M", (1920, 1080): "8M"}


def pictures(size: tuple[int, int]) -> list[np.ndarray]:
    """RGB pictures of the street clip."""
    source = open_source("")
    frames = [source.read() for _ in range(PICTURES)]
    return [cv2.resize(frame, size)[..., ::-1] for frame in frames if frame is not None]


def video(codec: str, rgb: Sequence[np.ndarray], size: tuple[int, int]) -> list[VideoPacket]:
    """The packets of a camera's encoder: no B-frames, a keyframe in ten pictures."""
    packets = encode(
        codec,
        len(rgb),
        size=size,
        gop=10,
        pictures=[np.ascontiguousarray(each) for each in rgb],
        tune="zerolatency",
        b=RATES[size],
    )
    return [VideoPacket(codec, memoryview(each.data), is_marked=each.is_key) for each in packets]


def decode_video(packets: Sequence[VideoPacket], *, convert: bool) -> None:
    """Decode all, and make RGB of each picture or of none."""
    stream, converter = VideoStream(), PictureConverter()
    for packet in packets:
        for picture in stream.decode(packet):
            if convert:
                converter.image(picture)


def decode_files(files: Sequence[SimpleNamespace]) -> None:
    """Decode all at their full size."""
    decoder = ImageDecoder()
    for file in files:
        decoder.compressed(file)


def main() -> None:
    """Print medians over the rounds, in which the ways take turns."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    cv2.setNumThreads(1)
    for size in SIZES:
        rgb = pictures(size)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        jpegs = [cv2.imencode(".jpg", each[..., ::-1], quality)[1].tobytes() for each in rgb]
        files = [SimpleNamespace(data=data, format="jpeg") for data in jpegs]
        ways: dict[str, Callable[[], None]] = {"jpeg": lambda files=files: decode_files(files)}
        sizes = {"jpeg": sum(map(len, jpegs))}
        for codec in ("h264", "hevc"):
            packets = video(codec, rgb, size)
            sizes[codec] = sum(len(packet.data) for packet in packets)
            ways[codec] = lambda packets=packets: decode_video(packets, convert=True)
            ways[f"{codec}, not converted"] = lambda p=packets: decode_video(p, convert=False)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = process_time()
                way()
                times[name].append((process_time() - began) * 1e3 / len(rgb))
        print(f"{size[0]}x{size[1]}: CPU ms for a picture, kB of a picture")
        for name, values in times.items():
            size_kb = sizes[name.split(",")[0]] / len(rgb) / 1e3
            ratio = median(values) / median(times["jpeg"])
            print(f"  {name:22} {median(values):6.2f}  {ratio:5.2f} of JPEG  {size_kb:6.1f} kB")


if __name__ == "__main__":
    main()

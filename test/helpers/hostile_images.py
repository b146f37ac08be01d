# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG files of every usual kind, and ways to damage them that know their structure."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\xff\xd9"
Piece = tuple[int | bytes, bytes]
"""A part of a file: its marker or its kind, and all its bytes."""
HUGE = (0, 1, 7, 8, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 12, 2**32 - 1)
"""Numbers of 32 bits that programs stumble over."""


def photo(height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """Blurred noise (H, W, 3): every block of it has coefficients."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.2)


def landscape(seed: int = 0, height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """Soft hills (H, W, 3) with the noise of a camera, which is stronger for higher seeds."""
    random = np.random.default_rng(seed)
    hills = cv2.resize(
        random.uniform(0, 255, (9, 12, 3)), (width, height), None, 0, 0, cv2.INTER_CUBIC
    )
    noise = random.normal(0, 2 + 2 * seed, (height, width, 3))
    return np.asarray((hills + noise).clip(0, 255), np.uint8)


def jpeg(pixels: NDArray[np.uint8], *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, options)[1].tobytes())


def png(pixels: NDArray[np.generic], *options: int) -> bytes:
    return bytes(cv2.imencode(".png", pixels, options)[1].tobytes())


def pillow(pixels: NDArray[np.uint8], kind: str, mode: str = "RGB", **options: object) -> bytes:
    """A file that libjpeg or libpng writes by way of Pillow; ``pixels`` are RGB."""
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


def animation(frames: int) -> bytes:
    pictures = [Image.fromarray(photo(seed=n)) for n in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, "PNG", save_all=True, append_images=pictures[1:])
    return out.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """Good files, by what is special about them."""
    picture = photo()
    return {
        "jpeg": jpeg(picture),
        "jpeg of odd size": jpeg(picture[:41, :39]),
        "jpeg, grey": jpeg(picture[..., 0]),
        "jpeg, progressive": jpeg(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "jpeg, restarts": jpeg(picture, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        "jpeg, restarts, odd size": jpeg(picture[:41, :39], cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "jpeg, progressive, restarts": jpeg(
            picture[:41, :39],
            *(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        ),
        "jpeg, own tables": jpeg(picture, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        "jpeg, 4:4:4": pillow(picture, "JPEG", subsampling=0),
        "jpeg, 4:2:2": pillow(picture, "JPEG", subsampling=1, quality=95),
        "jpeg, CMYK": pillow(picture, "JPEG", "CMYK"),
        "jpeg, progressive, grey": pillow(picture, "JPEG", "L", progressive=True),
        "jpeg, profile": pillow(picture, "JPEG", icc_profile=bytes(100_000), comment=b"\xff\xd8"),
        "png": png(picture),
        "png, grey": png(picture[..., 0]),
        "png, alpha": png(np.dstack([picture, picture[..., 0]])),
        "png, 16 bits": png(picture.astype(np.uint16) << 8),
        "png, one bit": pillow(picture, "PNG", "1"),
        "png, palette": pillow(picture, "PNG", "P"),
        "png, clear colour": pillow(picture, "PNG", "P", transparency=3),
        "png, interlaced": interlaced(),
        "png, animation of one frame": animated_png(frames=1),
    }


class Sizes(NamedTuple):
    """Fields of an IHDR chunk."""

    width: int = 8
    height: int = 8
    bits: int = 8
    colour: int = 2
    interlace: int = 0

    def chunk(self) -> bytes:
        fields = (self.width, self.height, self.bits, self.colour, 0, 0, self.interlace)
        return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """A PNG chunk, which may claim another length."""
    claimed = len(content) if length is None else length
    return (
        struct.pack(">I", claimed) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    )


def hand_made_png(sizes: Sizes, coded: bytes, *extra: bytes, end: int = 0) -> bytes:
    """A PNG with further chunks before its data, and an end that claims a length."""
    data = chunk(b"IDAT", coded)
    return b"".join([SIGNATURE, sizes.chunk(), *extra, data, chunk(b"IEND", b"", end)])


def rows_of(sizes: Sizes) -> bytes:
    """Compressed rows of an image of 8-bit colours."""
    return zlib.compress(bytes((1 + 3 * sizes.width) * sizes.height))


def interlaced() -> bytes:
    """8 x 8 pixels in seven passes (ISO 15948, section 8.2)."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\0" + bytes(range(3 * width))) * height for width, height in passes)
    return hand_made_png(Sizes(interlace=1), zlib.compress(rows))


def frame_control(number: int = 0, width: int = 8, height: int = 8, left: int = 0) -> bytes:
    """The fcTL chunk of an animation."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, left, 0, 1, 1, 0, 0))


def animated_png(frames: int, *control: bytes, end: int = 0) -> bytes:
    """An 8 x 8 PNG that claims to be an animation, with one frame in fact."""
    length = chunk(b"acTL", struct.pack(">II", frames, 0))
    extra = control or (frame_control(),)
    return hand_made_png(Sizes(), rows_of(Sizes()), length, *extra, end=end)


def many_scans(scans: int, width: int = 64, height: int = 64) -> bytes:
    """A progressive JPEG that goes over its pixels again and again: an AC scan of empty blocks."""
    blocks = -(-width // 8) * -(-height // 8)
    tables = _segment(0xDB, b"\0" + b"\1" * 64) + _segment(
        0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    )
    one_code = bytes([1] + [0] * 15)
    codes = _segment(0xC4, b"\0" + one_code + b"\0") + _segment(0xC4, b"\x10" + one_code + b"\xe0")
    means = _segment(0xDA, b"\1\1\0\0\0\0") + bytes(blocks // 8 + 1)
    runs = "0" + "1" * 14
    bits = runs * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    rest = _segment(0xDA, b"\1\1\0\1\x3f\0") + coded
    return b"\xff\xd8" + tables + codes + means + rest * scans + END


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@cache
def bombs() -> dict[str, bytes]:
    """Small files that claim much, by what they claim."""
    large = Sizes(8192, 8192, bits=16, colour=6)
    small = jpeg(photo())
    at = small.index(struct.pack(">HH", 48, 64))
    return {
        "animation without end": animated_png(2**31 - 1, end=2**32 - 12),
        "end with a length": animated_png(1, end=2**31),
        "9000 scans": many_scans(9000),
        "gigabytes of pixels": hand_made_png(large, bytes(600_000)),
        "pixels without data": hand_made_png(large._replace(bits=8), b""),
        "jpeg without data": small[:at] + b"\x20\0\x20\0" + small[at + 4 :],
        "70000 chunks": hand_made_png(Sizes(), b"", *[chunk(b"tEXt", b"")] * 70_000),
        "text that inflates": hand_made_png(
            Sizes(), rows_of(Sizes()), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))
        ),
    }


def jpeg_pieces(file: bytes) -> list[Piece]:
    """Markers with their parameters and the coded data after them."""
    pieces: list[Piece] = [(0xD8, file[:2])]
    position = 2
    while position < len(file):
        marker = file[position + 1]
        if marker == 0xD9:
            pieces.append((marker, file[position:]))
            break
        end = position + 2 + int.from_bytes(file[position + 2 : position + 4], "big")
        if marker == 0xDA:
            while file[end] != 0xFF or file[end + 1] == 0 or 0xD0 <= file[end + 1] <= 0xD7:
                end += 1
        pieces.append((marker, file[position:end]))
        position = end
    return pieces


def png_pieces(file: bytes) -> list[Piece]:
    """The signature, then the chunks."""
    pieces: list[Piece] = [(b"", file[:8])]
    position = 8
    while position < len(file):
        end = position + 12 + int.from_bytes(file[position : position + 4], "big")
        pieces.append((file[position + 4 : position + 8], file[position:end]))
        position = end
    return pieces


def mutated(file: bytes, random: Random) -> bytes:
    """A file with a few changes to its structure and its bytes."""
    is_png = file.startswith(SIGNATURE)
    pieces = [content for _, content in (png_pieces if is_png else jpeg_pieces)(file)]
    for _ in range(random.randint(0, 3)):
        random.choice(_CHANGES)(pieces, random, is_png)
    changed = b"".join(pieces)
    for _ in range(random.randint(0, 2)):
        changed = random.choice(_BYTE_CHANGES)(changed, random)
    return changed


def _drop(pieces: list[bytes], random: Random, is_png: bool) -> None:
    if len(pieces) > 1:
        del pieces[random.randrange(1, len(pieces))]


def _repeat(pieces: list[bytes], random: Random, is_png: bool) -> None:
    place = random.randrange(len(pieces))
    pieces[place:place] = [pieces[place]] * random.choice([1, 2, 20, 200])


def _swap(pieces: list[bytes], random: Random, is_png: bool) -> None:
    a, b = random.randrange(len(pieces)), random.randrange(len(pieces))
    pieces[a], pieces[b] = pieces[b], pieces[a]


def _borrow(pieces: list[bytes], random: Random, is_png: bool) -> None:
    """Take a piece of another file, of the same format or not."""
    other = random.choice(sorted(seeds().values()))
    split = png_pieces if other.startswith(SIGNATURE) else jpeg_pieces
    pieces.insert(random.randrange(len(pieces) + 1), random.choice(split(other))[1])


def _lie_about_length(pieces: list[bytes], random: Random, is_png: bool) -> None:
    place = random.randrange(1, len(pieces)) if len(pieces) > 1 else 0
    old = pieces[place]
    if is_png:
        pieces[place] = struct.pack(">I", random.choice(HUGE)) + old[4:]
    else:
        pieces[place] = old[:2] + struct.pack(">H", random.choice(HUGE) & 0xFFFF) + old[4:]


def _change_field(pieces: list[bytes], random: Random, is_png: bool) -> None:
    """Another number among the first parameters of a piece; a PNG's checksum is made right."""
    place = random.randrange(len(pieces))
    old = bytearray(pieces[place])
    start = 8 if is_png else 4
    if len(old) <= start + 4:
        return
    at = start + random.randrange(min(len(old) - start - 4, 18))
    size = random.choice([1, 2, 4])
    mask = (1 << 8 * size) - 1
    old[at : at + size] = (random.choice(HUGE) & mask).to_bytes(size, "big")
    if is_png:
        old[-4:] = struct.pack(">I", zlib.crc32(old[4:-4]))
    pieces[place] = bytes(old)


def _animate(pieces: list[bytes], random: Random, is_png: bool) -> None:
    new = [
        chunk(b"acTL", struct.pack(">II", random.choice(HUGE), 0)),
        frame_control(random.choice(HUGE), random.choice(HUGE), 8, random.choice(HUGE)),
        chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(bytes(200))),
    ]
    for piece in new[: random.randint(1, 3)]:
        pieces.insert(random.randrange(1, len(pieces) + 1), piece)


def _flip(file: bytes, random: Random) -> bytes:
    changed = bytearray(file)
    for _ in range(random.choice([1, 1, 4, 30])):
        if changed:
            changed[random.randrange(len(changed))] = random.choice([0, 0x80, 0xFF, 0xD8, 0xD9])
    return bytes(changed)


def _cut(file: bytes, random: Random) -> bytes:
    return file[: random.randrange(len(file) + 1)]


def _stale_tail(file: bytes, random: Random) -> bytes:
    other = random.choice(sorted(seeds().values()))
    return _cut(file, random) + other[random.randrange(len(other)) :]


def _hole(file: bytes, random: Random) -> bytes:
    """Zeros where a fragment was lost."""
    start = random.randrange(len(file) + 1)
    hole = file[start : start + random.choice([1, 16, 1400])]
    return file[:start] + bytes(len(hole)) + file[start + len(hole) :]


Change = Callable[[list[bytes], Random, bool], None]
_CHANGES: tuple[Change, ...] = (
    _drop,
    _repeat,
    _swap,
    _borrow,
    _lie_about_length,
    _change_field,
    _animate,
)
_BYTE_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _cut, _stale_tail, _hole)

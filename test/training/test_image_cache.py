# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drawn_sets import draw_image, write_yolo
from hostile_images import bombs, seeds

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.reduction import Halving
from compact_yolo_ros.support.files import UNFINISHED
from training.data import image_cache
from training.data.augmentation import Augmentation, random_view
from training.data.dataset import DataError, open_split
from training.data.loading import epoch_batches


@pytest.fixture
def data(tmp_path):
    texts = {name: f"0 .5 .5 .{number} .{number}" for number, name in enumerate("abcdef", 2)}
    return write_yolo(tmp_path / "set", texts, ["cat"])


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded, as it happens."""
    names, decode = [], image_cache.decode

    def recording(path):
        names.append(path.name)
        return decode(path)

    monkeypatch.setattr(image_cache, "decode", recording)
    return names


def images(data_set):
    return [sample.image.copy() for sample in data_set]


def test_all_caches_give_the_same_samples(data, tmp_path):
    folder = tmp_path / "cache"
    memory, disk, again, none = (
        open_split(data, "train", cache, folder) for cache in ("memory", "disk", "disk", "none")
    )
    for samples in zip(memory, disk, again, none, strict=True):
        for sample in samples[1:]:
            np.testing.assert_array_equal(sample.image, samples[0].image)
            np.testing.assert_array_equal(sample.boxes, samples[0].boxes)
            assert sample.name == samples[0].name


def test_memory_and_disk_decode_an_image_once(data, tmp_path, decoded):
    for cache in ("memory", "disk"):
        decoded.clear()
        found = open_split(data, "train", cache, tmp_path / "cache")
        images(found), images(found)
        assert sorted(decoded) == [f"{name}.png" for name in "abcdef"]
    decoded.clear()
    images(open_split(data, "train", "disk", tmp_path / "cache"))
    assert decoded == [], "another run finds them there"


def test_an_interrupted_cache_is_filled_up(data, tmp_path, decoded, monkeypatch):
    expected = images(open_split(data, "train"))
    real, written = image_cache._HEADER, []

    class Interrupted:
        size = real.size
        unpack = staticmethod(real.unpack)

        @staticmethod
        def pack(*values):
            written.append(values)
            if len(written) > 3:
                raise KeyboardInterrupt
            return real.pack(*values)

    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "_HEADER", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_split(data, "train", "disk", folder)
    assert len(list(folder.iterdir())) == 3, "whole files only, and no temporary ones"
    decoded.clear()
    found = images(open_split(data, "train", "disk", folder))
    assert len(decoded) == 3
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_a_killed_process_left_in_the_cache_does_not_stay(data, tmp_path):
    old, new = (tmp_path / f"{UNFINISHED}{name}" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir()
        (left / "part.rgb").write_bytes(b"part of an image")
    os.utime(old, (0, 0))
    open_split(data, "train", "disk", tmp_path)
    assert not old.exists() and new.exists(), "another process may still write the new one"


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_cache_file_is_written_again(data, tmp_path, damage):
    expected = images(open_split(data, "train", "disk", tmp_path / "cache"))
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    found = images(open_split(data, "train", "disk", tmp_path / "cache"))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_changed_image_is_decoded_again(data, tmp_path):
    image = data.parent / "images/train/g.bmp"  # not compressed: the size of the file stays
    draw_image(image, 50)
    facts = image.stat()
    before = images(open_split(data, "train", "disk", tmp_path / "cache"))
    draw_image(image, 60)
    assert image.stat().st_size == facts.st_size
    os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    after = images(open_split(data, "train", "disk", tmp_path / "cache"))
    equal = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert equal == [True] * 6 + [False]


def test_disk_images_are_mapped_and_cannot_be_written_to(data, tmp_path):
    image = open_split(data, "train", "disk", tmp_path / "cache")[0].image
    assert not image.flags.writeable and not image.flags.owndata


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_worker_processes_read_every_cache(data, tmp_path, cache):
    found = open_split(data, "train", cache, tmp_path / "cache")
    how = ((64,), 3, Augmentation(), 0.5, (0, 0))
    for a, b in zip(
        epoch_batches(found, *how, workers=2),
        epoch_batches(open_split(data, "train"), *how, workers=0),
        strict=True,
    ):
        assert a.images.equal(b.images) and a.targets.objects.equal(b.targets.objects)


def test_the_disk_keeps_images_whose_names_are_not_utf8(data, tmp_path, decoded):
    images = data.parent / "images" / "train"
    (images / "a.png").rename(images / os.fsdecode(b"stra\xdfe.png"))
    for _ in range(2):
        found = open_split(data, "train", "disk", tmp_path / "cache")
        assert len(found) == 6 and not [bad for bad in found.bad_files if bad.path.suffix == ".png"]
    assert len(decoded) == 6


def test_the_users_cache_is_the_default(data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_split(data, "train", "disk")
    assert len(list((tmp_path / "xdg/compact_yolo_ros/images").iterdir())) == 6


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_images(data, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cache cannot be written"):
        open_split(data, "train", "disk", tmp_path / "cache")


def write_noise(folder, sizes):
    """Write pictures (width, height) of grey with the noise of a sensor, each with one box."""
    rng = np.random.default_rng(0)
    data = write_yolo(folder, {name: "0 .5 .5 .25 .5" for name in sizes}, ["cat"])
    for name, (width, height) in sizes.items():
        noise = rng.normal(128, 15, (height, width, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"images/train/{name}.png"), noise)
    return data


CAMERAS = {"hd": (1280, 720), "odd": (1367, 771), "small": (640, 480), "tall": (480, 1300)}
LEAST = Size(560, 560)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_pictures_of_a_camera_are_halved_once_and_their_boxes_with_them(tmp_path, cache):
    data = write_noise(tmp_path / "set", CAMERAS)
    for _ in range(2):  # the second time, the disk has them
        whole = {s.name: s for s in open_split(data, "train", cache, tmp_path / "cache")}
        found = open_split(data, "train", cache, tmp_path / "cache", least=LEAST)
        for sample, entry in zip(found, found.entries, strict=True):
            width, height = CAMERAS[sample.name]
            if sample.name != "small":
                width, height = width // 2, height // 2
            assert sample.image.shape == (height, width, 3)
            assert (entry.image.width, entry.image.height) == (width, height)
            box = [0.375 * width, 0.25 * height, 0.625 * width, 0.75 * height]
            np.testing.assert_allclose(sample.boxes, [box], rtol=1e-4)
            np.testing.assert_allclose(entry.truth.boxes, [box], rtol=1e-4)
        views = {sample.name: sample.image for sample in found}
        np.testing.assert_array_equal(views["small"], whole["small"].image)
        halved = Halving()(np.ascontiguousarray(whole["hd"].image), (320, 180))
        np.testing.assert_array_equal(views["hd"], halved, "as the node does it")


SENSORS = {"hd": (1280, 720), "full": (1920, 1080), "phone": (2592, 1944), "web": (1024, 683)}


def test_noise_is_in_a_training_view_as_it_is_in_the_node(tmp_path):
    data = write_noise(tmp_path / "set", SENSORS)
    plain = Augmentation(scale=(1, 1), aspect=0, flip=0)
    samples = open_split(data, "train", "none"), open_split(data, "train", least=Size(640, 640))
    for whole, halved in zip(*samples, strict=True):
        assert halved.image.shape[1] < 4 * 320 and halved.image.size <= whole.image.size
        for side in (224, 320):
            seen = np.empty((side, side, 3), np.uint8)
            place = Letterbox(seen)(whole.image, "rgb")
            shape, inside = (place.height, side), seen[place.top :][2 : place.height - 2]
            rng = np.random.default_rng(0)
            view = random_view(halved, shape, side, (1, 1), plain, rng).image[2:-2]
            # Of the rows of some the node reads four for each of its own; here all are read, once.
            least = 0.95 if whole.name in ("hd", "web") else 0.6
            assert least < view.std() / inside.std() < 1.05


def test_objects_stay_where_they_are_in_halved_views(tmp_path):
    data = write_noise(tmp_path / "set", SENSORS)
    for name, (width, height) in SENSORS.items():
        image = np.zeros((height, width, 3), np.uint8)
        left, top = width * 3 // 8, height // 4
        image[top : height - top, left : width - left] = 255
        cv2.imwrite(str(tmp_path / f"set/images/train/{name}.png"), image)
    for sample in open_split(data, "train", least=Size(640, 640)):
        for seed in range(20):
            how, rng = Augmentation(scale=(0.4, 0.8), visible=1), np.random.default_rng(seed)
            view = random_view(sample, (320, 320), 320, how.scale, how, rng)
            rows, columns = (np.flatnonzero((view.image > 185).any((i, 2))) for i in (1, 0))
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose(view.boxes, [found], atol=1.1)


def test_pictures_that_are_not_large_give_the_views_that_they_gave(tmp_path):
    data = write_noise(tmp_path / "set", {"a": (640, 480), "b": (480, 640), "c": (640, 640)})
    how = (224, 320), 3, Augmentation(), 0.5
    plain, least = (open_split(data, "train", least=own) for own in (None, Size(640, 640)))
    for epoch in range(5):
        batches = (epoch_batches(d, *how, (0, epoch), workers=0) for d in (plain, least))
        for one, other in zip(*batches, strict=True):
            assert one.images.equal(other.images)
            assert all(x.equal(y) for x, y in zip(one.targets, other.targets, strict=True))


def test_the_disk_cache_keeps_what_is_halved_apart(tmp_path, decoded):
    data, folder = write_noise(tmp_path / "set", CAMERAS), tmp_path / "cache"
    open_split(data, "train", "disk", folder)
    files = set(folder.iterdir())
    first = open_split(data, "train", "disk", folder, least=LEAST)
    added = set(folder.iterdir()) - files
    assert len(added) == 3, "the small picture is what it was"
    assert max(file.stat().st_size for file in added) < 700 * 400 * 3
    decoded.clear()
    for least, samples in ((LEAST, first), (Size(600, 600), first), (None, None)):
        again = open_split(data, "train", "disk", folder, least=least)
        for one, other in zip(again, samples or again, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
    assert decoded == [], "each is found by what it was reduced to"
    smaller = open_split(data, "train", "disk", folder, least=Size(320, 320))
    assert {s.name: s.image.shape[1] for s in smaller} == {
        "hd": 320,
        "odd": 341,
        "small": 320,
        "tall": 120,
    }


@pytest.mark.parametrize("name", ["animation without end", "9000 scans"])
def test_a_file_that_demands_too_much_is_not_decoded(name, tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(bombs()[name])
    monkeypatch.setattr(image_cache.cv2, "imdecode", pytest.fail)
    with pytest.raises(ValueError, match="is not a readable image: the"):
        image_cache.decode(file)


@pytest.mark.parametrize("name", seeds())
def test_images_of_every_usual_kind_are_read(name, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(seeds()[name])
    pixels, _ = image_cache.decode(file)
    np.testing.assert_array_equal(pixels[..., ::-1], cv2.imread(str(file)))


def test_grey_images_of_16_bits_are_seen_as_the_node_sees_them(tmp_path):
    values = np.linspace(20_000, 24_000, 48 * 64).reshape(48, 64).astype(np.uint16)
    content = cv2.imencode(".png", values)[1]
    (tmp_path / "a.png").write_bytes(content.tobytes())
    message = SimpleNamespace(data=content, format="mono16; png compressed mono16")
    seen = ImageDecoder().compressed(message).pixels
    assert (seen.min(), seen.max()) == (0, 255)
    assert (image_cache.decode(tmp_path / "a.png")[0] == seen[..., None]).all()

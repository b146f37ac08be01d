# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from drawn_sets import draw_image, write_yolo
from hostile_images import bombs, seeds

from training.data import image_cache
from training.data.augmentation import Augmentation
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


def test_the_users_cache_is_the_default(data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_split(data, "train", "disk")
    assert len(list((tmp_path / "xdg/compact_yolo_ros/images").iterdir())) == 6


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_images(data, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cache cannot be written"):
        open_split(data, "train", "disk", tmp_path / "cache")


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

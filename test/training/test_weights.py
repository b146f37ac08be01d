# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lively_mobilenet import images, lively_mobilenet
from torch.nn import functional as F

from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.variant import Variant
from training.weights.backbone_file import fill_backbone, read_backbone
from training.weights.from_tensorflow import load_mobilenet_v2, read_constants
from training.weights.narrow_mobilenet import main, narrow


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(g | 0x80 for g in groups[:-1]), groups[-1]])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Encode a protocol-buffer message of integers and byte strings."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def constant(name: str, value: np.ndarray) -> bytes:
    """Encode a node that holds a float tensor, as TensorFlow freezes it."""
    shape = message(*((2, message((1, size))) for size in value.shape))
    tensor = message((1, 1), (2, shape), (4, value.astype("<f4").tobytes()))
    attributes = [(5, message((1, b"dtype"), (2, message((6, 1)))))]
    attributes.append((5, message((1, b"value"), (2, message((8, tensor))))))
    return message((1, name.encode()), (2, b"Const"), *attributes)


@pytest.fixture(scope="module")
def wide() -> MobileNetV2:
    return lively_mobilenet()


def constants_of(model: MobileNetV2) -> dict[str, np.ndarray]:
    """Name and lay out weights as the object-detection models of TensorFlow do."""
    units = {"Conv": (model.stem, "weights")}
    for index, block in enumerate(model.blocks):
        scope = f"expanded_conv_{index}" if index else "expanded_conv"
        if index:
            units[f"{scope}/expand"] = (block.expand, "weights")
        units[f"{scope}/depthwise"] = (block.depthwise, "depthwise_weights")
        units[f"{scope}/project"] = (block.project, "weights")
    result = {}
    for scope, (unit, kernel) in units.items():
        prefix = f"FeatureExtractor/MobilenetV2/{scope}/"
        order = (2, 3, 0, 1) if kernel == "depthwise_weights" else (2, 3, 1, 0)
        result[prefix + kernel] = unit.conv.weight.numpy().transpose(order)
        norm = unit.norm
        values = {"gamma": norm.weight, "beta": norm.bias}
        values |= {"moving_mean": norm.running_mean, "moving_variance": norm.running_var}
        result |= {f"{prefix}BatchNorm/{k}": v.numpy() for k, v in values.items()}
    return result


def write(path: Path, constants: dict[str, np.ndarray]) -> Path:
    path.write_bytes(message(*((1, constant(k, v)) for k, v in constants.items())))
    return path


def test_a_frozen_graph_computes_the_same_from_the_other_pixel_range(wide, tmp_path):
    loaded = load_mobilenet_v2(write(tmp_path / "graph.pb", constants_of(wide))).eval()
    # the border differs: padding is black where it was grey
    with torch.no_grad():
        inner = loaded.stem(images())[..., 1:-1, 1:-1]
        expected = wide.stem(images() * 2 - 1)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, expected, rtol=1e-4, atol=1e-4)
    for name, value in wide.state_dict().items():
        if not name.startswith("stem") and not name.endswith("num_batches_tracked"):
            assert loaded.state_dict()[name].equal(value), name


def test_every_weight_must_be_there_in_its_shape(wide, tmp_path):
    constants = constants_of(wide)
    name = "FeatureExtractor/MobilenetV2/expanded_conv_3/project/weights"
    with pytest.raises(ValueError, match="has no .*expanded_conv_3/project"):
        load_mobilenet_v2(
            write(tmp_path / "a.pb", {k: v for k, v in constants.items() if k != name})
        )
    with pytest.raises(ValueError, match="expanded_conv_3/project.*shape"):
        load_mobilenet_v2(write(tmp_path / "b.pb", {**constants, name: constants[name][..., 1:]}))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xff\xff", b"no graph at all", b"\x08\x01", b"\n\x02*\x00"]
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "x.pb").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pb"):
        read_constants(tmp_path / "x.pb")


@pytest.mark.parametrize(
    ("source", "picture", "message"),
    [
        ("gone.pb", b"", "gone.pb"),
        ("x.pb", b"", "x.pb"),
        ("wide.pb", b"no picture", "a.jpg: is not a readable"),
    ],
)
def test_unusable_input_for_narrowing_gives_one_sentence(
    wide, tmp_path, monkeypatch, source, picture, message
):
    (tmp_path / "x.pb").write_bytes(b"no graph")
    write(tmp_path / "wide.pb", constants_of(wide))
    (tmp_path / "a.jpg").write_bytes(picture)
    options = {"source": tmp_path / source, "images": tmp_path, "out": tmp_path / "b.pt"}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    monkeypatch.setattr("sys.argv", ["narrow", *words, "--samples", "1"])
    with pytest.raises(SystemExit, match=f"training.weights.narrow_mobilenet: .*{message}"):
        main()
    assert not (tmp_path / "b.pt").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--width", "1.4"], "give a width up to 1.0"),
        (["--width", "nan"], "'nan' is not a number"),
        (["--width", "0"], "'0' is not above 0"),
        (["--samples", "0"], "'0' is not a whole number, 1 or more"),
        (["--size", "0"], "'0' is not a whole number, 64 or more"),
        (["--size", "32"], "'32' is not a whole number, 64 or more"),
    ],
)
def test_an_impossible_option_for_narrowing_gives_one_sentence(
    wide, tmp_path, monkeypatch, capsys, option, message
):
    write(tmp_path / "wide.pb", constants_of(wide))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((64, 64, 3), 90, np.uint8))
    options = ["--source", tmp_path / "wide.pb", "--images", tmp_path, "--out", tmp_path / "b.pt"]
    options += ["--samples", "1", "--size", "64", *option]
    monkeypatch.setattr("sys.argv", ["narrow", *map(str, options)])
    with pytest.raises(SystemExit) as left:
        main()
    assert message in str(left.value) + capsys.readouterr().err
    assert not (tmp_path / "b.pt").exists()


def test_narrowing_to_the_same_width_changes_nothing(wide):
    same = MobileNetV2(1.0, uneven=True)
    explained = narrow(wide, same, images())
    assert min(explained) > 0.999
    for ours, theirs in zip(same(images()), wide(images()), strict=True):
        assert (ours - theirs).std() < 0.02 * theirs.std()


def test_narrowing_keeps_most_of_what_the_wide_network_sees(wide):
    slim = MobileNetV2(0.75, uneven=True).eval()
    explained = narrow(wide, slim, images())
    assert len(explained) == 16
    assert min(explained[:3]) > 0.8, "these streams keep their width"
    # random weights have no weak directions, so a quarter of the channels costs about a quarter
    assert min(explained) > 0.4
    assert all(m.isfinite().all() for m in slim(images()))


def test_narrowing_keeps_the_channels_that_matter(wide):
    """Of the hidden channels, 30 of 192 are made useless; they are among the 48 left out."""
    copy_ = copy.deepcopy(wide)
    useless = torch.randperm(192, generator=torch.Generator().manual_seed(3))[:30].tolist()
    block = copy_.blocks[4]
    with torch.no_grad():
        block.project.conv.weight[:, useless] *= 1e-3
    slim = MobileNetV2(0.75, uneven=True).eval()
    narrow(copy_, slim, images())
    theirs, ours = (
        F.normalize(b.depthwise.conv.weight.flatten(1)) for b in (block, slim.blocks[4])
    )
    kept = (ours @ theirs.T).argmax(1).tolist()
    assert len(set(kept)) == 144 and not set(kept) & set(useless)


def test_a_narrow_network_pads_as_the_wide_one(wide, tmp_path, monkeypatch, capsys):
    write(tmp_path / "wide.pb", constants_of(wide))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((64, 64, 3), 90, np.uint8))
    out = tmp_path / "b.pt"
    options = ["--source", tmp_path / "wide.pb", "--images", tmp_path, "--out", out]
    options += ["--width", "0.5", "--samples", "1", "--size", "64"]
    monkeypatch.setattr("sys.argv", ["narrow", *map(str, options)])
    main()
    weights = read_backbone(out)
    assert (weights.name, weights.uneven, weights.folded) == ("mobilenet_v2_050", True, False)
    fill_backbone(MobileNetV2(0.5, uneven=True), weights, out)
    printed = capsys.readouterr().out
    assert "of the variance kept" in printed
    (detector,) = re.findall("--detector '(.*)'", printed)
    fill_backbone(Variant.parse(detector).build(2).backbone, weights, out)

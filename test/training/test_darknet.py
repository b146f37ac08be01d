# SPDX-License-Identifier: Apache-2.0
"""The parts of the darknet importer: parser, weights reader, every layer against plain loops."""

from __future__ import annotations

import struct

import darknet_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.darknet.cfg import DarknetError, Section, parse_cfg
from training.darknet.network import DarknetNetwork
from training.darknet.weights import ConvolutionShape, parse_weights
from training.deployment.predictor import Predictor

NET = "[net]\nwidth=160\nheight=160\nchannels=3\n"
# to 20 x 20 at an input of 160
STEM = "[convolutional]\nfilters=8\nsize=3\nstride=8\npad=1\nbatch_normalize=1\nactivation=leaky\n"
COARSE = "[maxpool]\nsize=2\nstride=2\n"
OUTPUT = (
    "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
    "[yolo]\nmask=1,2\nanchors=10,14, 23,27, 37,58\nclasses=2\nnum=3\n"
)
REGION = (
    "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
    "[region]\nanchors=1.08,1.19, 3.4,4.4\nclasses=3\nnum=2\ncoords=4\nsoftmax=1\n"
)

LAYERS = {
    "without normalisation": "[convolutional]\nfilters=6\nsize=3\npad=1\nactivation=linear\n",
    "logistic by default": "[convolutional]\nfilters=6\n",
    "strided": "[convolutional]\nfilters=6\nsize=3\nstride=2\npad=1\nactivation=relu\n",
    "explicit padding": "[convolutional]\nfilters=6\nsize=5\npadding=2\nactivation=relu\n",
    "pad means half the size": "[convolutional]\nfilters=6\nsize=5\npad=1\nactivation=relu\n",
    "groups": "[convolutional]\nfilters=6\nsize=3\npad=1\ngroups=2\nactivation=relu\n",
    "depthwise": "[convolutional]\nfilters=8\nsize=5\npad=1\ngroups=8\nbatch_normalize=1\n",
    "pool 2 stride 2": "[maxpool]\nsize=2\nstride=2\n",
    "pool 2 stride 1": "[maxpool]\nsize=2\nstride=1\n",
    "pool 3 stride 1": "[maxpool]\nsize=3\nstride=1\n",
    "pool 3 stride 2": "[maxpool]\nsize=3\nstride=2\n",
    "pool 4 stride 2": "[maxpool]\nsize=4\nstride=2\n",
    "pool 5 of an odd map": COARSE + COARSE + "[maxpool]\nsize=5\nstride=1\n",
    "pool 2 of an odd map": COARSE + COARSE + "[maxpool]\nsize=2\nstride=1\n",
    "size of a pool is its stride": "[maxpool]\nstride=2\n",
    "route": COARSE + "[route]\nlayers=-2\n",
    "route to a number": "[convolutional]\nfilters=4\n[route]\nlayers=-1,0\n",
    "route of a part": "[convolutional]\nfilters=4\n[route]\nlayers=-1,0\ngroups=2\ngroup_id=1\n",
    "shortcut": "[convolutional]\nfilters=8\n[shortcut]\nfrom=-2\nactivation=leaky\n",
    "shortcut of three": "[convolutional]\nfilters=8\n" * 2 + "[shortcut]\nfrom=-2,0\n",
    "upsample": COARSE + "[upsample]\nstride=2\n",
    "reorg": "[reorg]\nstride=2\n",
    "dropout": "[dropout]\nprobability=.5\n",
} | {
    name: f"[convolutional]\nfilters=6\nbatch_normalize=1\nactivation={name}\n"
    for name in ("linear", "leaky", "relu", "relu6", "mish", "swish", "logistic")
}


def imported(cfg: str, weights: bytes) -> DarknetNetwork:
    network = DarknetNetwork(parse_cfg(cfg))
    shapes = [layer.stored for layer in network.convolutions]
    network.load(parse_weights(reference.HEADER + weights, shapes))
    return network.eval()


def picture(height: int = 160, width: int = 192) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def planes(image: np.ndarray) -> np.ndarray:
    return (image.transpose(2, 0, 1) / 255).astype(np.float32)


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_computes_what_darknet_defines(layers: str) -> None:
    cfg = NET + STEM + layers + OUTPUT
    image = planes(picture())
    expected = reference.run(cfg, image)
    (found,) = imported(cfg, expected.weights)(torch.from_numpy(image)[None])
    np.testing.assert_allclose(found[0].numpy(), expected.maps[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "cfg",
    [
        NET + STEM + OUTPUT,
        NET + STEM + OUTPUT + "scale_x_y=1.1\n[route]\nlayers=0\n" + COARSE + OUTPUT,
        NET + STEM + COARSE + COARSE + REGION,
    ],
    ids=["yolo", "yolo at two strides, one with scale_x_y", "region"],
)
def test_candidates_are_decoded_as_darknet_defines(cfg: str) -> None:
    image = picture()
    expected = reference.run(cfg, planes(image))
    network = imported(cfg, expected.weights)
    boxes, scores, labels = (
        t[0].numpy() for t in Predictor(network)(torch.from_numpy(image)[None])
    )
    best = np.max(expected.scores, 1)
    order = np.argsort(-best)[:300]
    count = len(order)
    np.testing.assert_allclose(scores[:count], best[order], atol=1e-5)
    np.testing.assert_allclose(boxes[:count], np.array(expected.boxes)[order], rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(labels[:count], np.argmax(expected.scores, 1)[order])
    # a single coarse map has fewer than 300 candidates
    assert not scores[count:].any()


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ("", "the first section is not \\[net\\]"),
        (OUTPUT, "the first section is not \\[net\\]"),
        (NET + STEM, "no \\[yolo\\] and no \\[region\\] layer"),
        (NET.replace("160", "100") + STEM, "line 1: input size 100 is not usable"),
        (NET.replace("channels=3", "channels=1") + OUTPUT, "channels=1, which is not supported"),
        ("[net]\nwidth=160\n" + OUTPUT, "does not say 'height'"),
        (
            NET + "[crnn]\n" + OUTPUT,
            "\\[crnn\\] at line 5 is not supported: .*convolutional, dropout",
        ),
        (NET + STEM.replace("leaky", "hard_mish") + OUTPUT, "activation=hard_mish: .* leaky, relu"),
        (NET + STEM.replace("size=3", "size=x"), "size=x, which is not a whole number"),
        (NET + STEM.replace("filters=8", "filters=0"), "filters=0: it must be from 1 to"),
        (NET + STEM.replace("filters=8", f"filters={10**12}"), "it must be from 1 to"),
        (NET + STEM + "dilation=2\n" + OUTPUT, "dilation=2, which is not supported"),
        (NET + STEM + "groups=3\n", "cannot divide 3 to 8 channels by 3"),
        (NET + STEM + "[convolutional]\nsize=3\n", "a map of 18 x 18 from an input of 160 x 160"),
        (NET + STEM.replace("stride=8", "stride=7") + OUTPUT, "must be a 1st, 2nd, 4th"),
        (NET + STEM.replace("stride=8", "stride=64") + OUTPUT, "must be a 1st, 2nd, 4th"),
        (NET + STEM + "[route]\nlayers=-3\n", "reads layer -3, which does not come before it"),
        (NET + STEM + "[route]\nlayers=1\n", "reads layer 1, which does not come before it"),
        (NET + STEM + "[route]\n", "does not say 'layers'"),
        (NET + STEM + "[route]\nlayers=-1,\n", "not a list of whole numbers"),
        (NET + STEM + COARSE + "[route]\nlayers=-1,0\n", "different width or height"),
        (NET + STEM + "[route]\nlayers=0\ngroups=3\n", "cannot take part 0 of 3"),
        (NET + STEM + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", "cannot take part 2 of 2"),
        (NET + STEM + COARSE + "[shortcut]\nfrom=0\n", "adds maps of different sizes"),
        (NET + STEM + "[reorg]\nstride=3\n", "cannot divide 8 channels by 9"),
        (NET + STEM + "[maxpool]\nsize=2\npadding=2\n", "padding=2, which is not less"),
        (NET + STEM + OUTPUT.replace("14\n", "18\n"), "reads 18 channels, but 2 .* need 14"),
        (NET + STEM + OUTPUT.replace("1,2\n", "1,3\n"), "a mask that points outside its 3"),
        (NET + STEM + OUTPUT.replace("58", "58,5"), "needs 3 pairs of positive anchors"),
        (NET + STEM + OUTPUT.replace("58", "nan"), "not a list of numbers"),
        (NET + STEM + OUTPUT + "new_coords=1\n", "new_coords=1, which is not supported"),
        (NET + STEM + OUTPUT + "[route]\nlayers=-1\n", "reads from layer 2, which is an output"),
        (NET + STEM + REGION.replace("softmax=1", ""), "not supported without softmax=1"),
        (NET + STEM + OUTPUT + "[route]\nlayers=0\n" + REGION, "outputs differ in kind"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(cfg: str, sentence: str) -> None:
    with pytest.raises(DarknetError, match=sentence) as error:
        DarknetNetwork(parse_cfg(cfg))
    assert "\n" not in str(error.value)


def test_comments_blanks_and_aliases_are_read_as_darknet_reads_them() -> None:
    text = "# head\n\n[network]\n width = 3 20 # why\r\n;no\n[conv]\nfilters=8\nfilters=8\n[max]\n"
    assert parse_cfg(text) == [
        Section("net", 3, {"width": "320"}),
        Section("convolutional", 6, {"filters": "8"}),
        Section("maxpool", 9),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("width=1\n[net]", "line 1, 'width=1', comes before the first"),
        ("[net]\nwidth", "line 2, 'width', is neither"),
        ("[net]\n=3", "line 2, '=3', is neither"),
        ("[net]\nwidth=", "line 2, 'width=', is neither"),
        ("[net\n", "line 1, '\\[net', is not a \\[section\\]"),
        ("[net]\nwidth=1\nwidth=2", "line 3 gives \\[net\\] at line 1 another 'width'"),
    ],
)
def test_text_that_is_no_cfg_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(DarknetError, match=sentence):
        parse_cfg(text)


words = st.text("abcdefgh_xyz0123456789.,-", min_size=1, max_size=8)


@given(
    st.lists(st.tuples(words, st.dictionaries(words, words, max_size=5)), max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", " # remark\n", "\t;\n"]),
    st.sampled_from(["=", " = ", "\t= "]),
)
def test_sections_survive_being_written(
    content: list[tuple[str, dict[str, str]]], end: str, equals: str
) -> None:
    lines = []
    for kind, options in content:
        lines += [f"[{kind}]", *(f"{key}{equals}{value}" for key, value in options.items())]
    sections = parse_cfg(end.join([*lines, ""]))
    assert [(section.kind, section.options) for section in sections] == content


@given(st.text(max_size=200) | st.text("[]=#;,-01\nnetconvyolo", max_size=200))
def test_any_text_is_a_network_or_refused_in_one_line(text: str) -> None:
    try:
        DarknetNetwork(parse_cfg(text))
    except DarknetError as error:
        assert len(str(error).splitlines()) == 1


SHAPES = [ConvolutionShape((2, 3, 1, 1), True, 10), ConvolutionShape((4, 1, 3, 3), False, 20)]
VALUES = np.arange(1, 14 + 40 + 1, dtype="<f4")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<3iQ", 0, 2, 5, 2**40),
        struct.pack("<3iI", 0, 1, 0, 7),
        struct.pack("<3iQ", 1, 0, 0, 0),
    ],
    ids=["0.2", "0.1", "1.0"],
)
def test_weights_are_read_in_darknets_order_after_either_header(header: bytes) -> None:
    first, second = parse_weights(header + VALUES.tobytes(), SHAPES)
    assert first.shift.tolist() == [1, 2]
    assert first.scale.tolist() == [3, 4]
    assert first.mean.tolist() == [5, 6]
    assert first.variance.tolist() == [7, 8]
    np.testing.assert_array_equal(first.kernel, np.arange(9, 15).reshape(2, 3, 1, 1))
    assert second.shift.tolist() == [15, 16, 17, 18]
    assert second.scale is None
    np.testing.assert_array_equal(second.kernel, np.arange(19, 55).reshape(4, 1, 3, 3))


@given(st.integers(0, len(VALUES) * 4 - 1))
def test_weights_cut_off_anywhere_are_refused(length: int) -> None:
    data = reference.HEADER + VALUES.tobytes()[:length]
    line = 10 if length < 14 * 4 else 20
    missing = len(VALUES) * 4 - length
    with pytest.raises(DarknetError, match=f"at line {line} of the cfg, {missing} bytes too early"):
        parse_weights(data, SHAPES)


@given(st.integers(1, 50))
def test_weights_with_trailing_bytes_are_refused(extra: int) -> None:
    with pytest.raises(DarknetError, match=f"^{extra} bytes are left over"):
        parse_weights(reference.HEADER + VALUES.tobytes() + bytes(extra), SHAPES)


@pytest.mark.parametrize(
    "data", [b"", b"short", bytes(19)[:11], b"PK\x03\x04" * 20, struct.pack("<3i", 0, 2, 5)]
)
def test_a_file_without_the_header_of_weights_is_refused(data: bytes) -> None:
    with pytest.raises(DarknetError, match="does not begin with the header of darknet weights"):
        parse_weights(data, SHAPES)


@pytest.mark.parametrize(("place", "value"), [(0, np.nan), (53, np.inf), (6, -1)])
def test_values_that_no_network_has_are_refused(place: int, value: float) -> None:
    values = VALUES.copy()
    values[place] = value
    with pytest.raises(DarknetError, match="are not finite numbers"):
        parse_weights(reference.HEADER + values.tobytes(), SHAPES)

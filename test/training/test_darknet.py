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

# with activation=logistic before the head, as all public cfgs have it
NEW_COORDS = OUTPUT.replace("linear", "logistic") + "new_coords=1\nscale_x_y=2.0\n"

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
    "shortcut to fewer channels": "[convolutional]\nfilters=5\n[shortcut]\nfrom=0\n",
    "shortcut to more channels": (
        "[convolutional]\nfilters=11\n[shortcut]\nfrom=0\nactivation=leaky\n"
    ),
    "shortcut of three unequal ones": (
        "[convolutional]\nfilters=3\n[convolutional]\nfilters=5\n[shortcut]\nfrom=-2,0\n"
    ),
    "squeeze and excite": (
        "[avgpool]\n[convolutional]\nfilters=3\nactivation=swish\n"
        "[convolutional]\nfilters=8\nactivation=logistic\n"
        "[scale_channels]\nfrom=-4\nactivation=leaky\n"
    ),
    "scale pixels": "[convolutional]\n[scale_channels]\nfrom=0\nscale_wh=1\n",
    "spatial attention": "[convolutional]\nfilters=8\n[sam]\nfrom=-2\nactivation=relu\n",
    "fire": (
        "[convolutional]\nfilters=4\nactivation=leaky\n[convolutional]\nfilters=6\n[get_squeeze]\n"
        "[convolutional]\nfilters=7\nsize=3\npad=1\n[merge_expand]\n[dense]\n"
    ),
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
        NET + STEM + NEW_COORDS + "[route]\nlayers=0\n" + COARSE + NEW_COORDS,
    ],
    ids=["yolo", "yolo at two strides, one with scale_x_y", "region", "new coordinates"],
)
def test_candidates_are_decoded_as_darknet_defines(cfg: str) -> None:
    compare_candidates(cfg, picture())


# maps of 20 x 20 and 10 x 10 become 7 x 7, 4 x 4 and so on
@pytest.mark.parametrize(("height", "width"), [(56, 56), (50, 75), (300, 200), (64, 416)])
@pytest.mark.parametrize("coarse", [OUTPUT, REGION, NEW_COORDS], ids=["yolo", "region", "new"])
def test_a_network_of_any_size_is_decoded_as_darknet_defines(
    height: int, width: int, coarse: str
) -> None:
    """The cells of a map divide the input evenly, though its sides are no multiples of 32."""
    net = NET.replace("width=160", f"width={width}").replace("height=160", f"height={height}")
    compare_candidates(net + STEM + COARSE + coarse, picture(height, width))


@pytest.mark.parametrize(
    ("layers", "height", "width"),
    [
        (STEM.replace("stride=8", "stride=7"), 160, 160),
        (STEM.replace("stride=8", "stride=64"), 160, 160),
        # 5 divides 160, but no other input
        (STEM.replace("stride=8", "stride=5"), 192, 224),
        # without padding, maps lose their edges: 18 x 18
        (STEM + "[convolutional]\nfilters=8\nsize=3\nactivation=relu\n", 160, 160),
    ],
)
def test_maps_that_are_no_even_part_of_the_input_are_decoded_as_darknet_defines(
    layers: str, height: int, width: int
) -> None:
    compare_candidates(NET + layers + OUTPUT, picture(height, width))


def test_attention_makes_no_network_special() -> None:
    """Though its maps of one pixel are no even part of the input."""
    squeezed = "[avgpool]\n[convolutional]\nfilters=8\nactivation=logistic\n"
    cfg = NET + STEM + squeezed + "[scale_channels]\nfrom=0\n" + OUTPUT
    network = DarknetNetwork(parse_cfg(cfg))
    assert (network.any_size, network.grid.any_size) == (False, False)


def compare_candidates(cfg: str, image: np.ndarray) -> None:
    expected = reference.run(cfg, planes(image))
    network = imported(cfg, expected.weights)
    boxes, scores, labels = (
        t[0].numpy() for t in Predictor(network)(torch.from_numpy(image)[None])
    )
    reference.assert_candidates(boxes, scores, labels, expected)


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ("", "the first section is not \\[net\\]"),
        (OUTPUT, "the first section is not \\[net\\]"),
        (NET + STEM, "no \\[yolo\\] and no \\[region\\] layer"),
        (NET.replace("160", "0") + STEM, "line 1: input size 0 is not usable: give 1 to 1280"),
        (NET.replace("160", "1536") + STEM, "line 1: input size 1536 is not usable"),
        (NET.replace("channels=3", "channels=1") + OUTPUT, "channels=1, which is not supported"),
        ("[net]\nwidth=160\n" + OUTPUT, "does not say 'height'"),
        (
            NET + "[crnn]\n" + OUTPUT,
            "\\[crnn\\] at line 5 is not supported: .*avgpool, convolutional",
        ),
        (NET + STEM.replace("leaky", "hard_mish") + OUTPUT, "activation=hard_mish: .* leaky, relu"),
        (NET + STEM.replace("size=3", "size=x"), "size=x, which is not a whole number"),
        (NET + STEM.replace("filters=8", "filters=0"), "filters=0: it must be from 1 to"),
        (NET + STEM.replace("filters=8", f"filters={10**12}"), "it must be from 1 to"),
        (NET + STEM + "dilation=2\n" + OUTPUT, "dilation=2, which is not supported"),
        (NET + STEM + "groups=3\n", "cannot divide 3 to 8 channels by 3"),
        (NET + "[convolutional]\nsize=161\n", "a map of 0 x 0 from an input of 160 x 160: it must"),
        (NET + "[upsample]\nstride=3\n", "a map of 480 x 480 from an input of 160 x 160"),
        (NET + "[convolutional]\npadding=16384\n", "at most twice its sides"),
        (NET + STEM + "[route]\nlayers=-3\n", "reads layer -3, which does not come before it"),
        (NET + STEM + "[route]\nlayers=1\n", "reads layer 1, which does not come before it"),
        (NET + STEM + "[route]\n", "does not say 'layers'"),
        (NET + STEM + "[route]\nlayers=-1,\n", "not a list of whole numbers"),
        (NET + STEM + COARSE + "[route]\nlayers=-1,0\n", "different width or height"),
        (NET + STEM + "[route]\nlayers=0\ngroups=3\n", "cannot take part 0 of 3"),
        (NET + STEM + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", "cannot take part 2 of 2"),
        (NET + STEM + COARSE + "[shortcut]\nfrom=0\n", "adds maps of different width or hei"),
        (NET + STEM + "[scale_channels]\nfrom=-2\n", "reads layer -2, which does not come before"),
        (NET + STEM + "[scale_channels]\n", "does not say 'from'"),
        (NET + STEM * 2 + "[scale_channels]\nfrom=0,1\n", "must name one layer in 'from'"),
        (
            NET + STEM + "[convolutional]\nfilters=8\n[scale_channels]\nfrom=0\n",
            "factor for every channel of the map it scales, 1 x 1 x 8, but reads 20 x 20 x 8",
        ),
        (
            NET + STEM + "[avgpool]\n[scale_channels]\nfrom=0\nscale_wh=1\n",
            "factor for every pixel of the map it scales, 20 x 20 x 1, but reads 1 x 1 x 8",
        ),
        (NET + STEM + "[avgpool]\n[sam]\nfrom=0\n", "multiplies 1 x 1 x 8 with 20 x 20 x 8 values"),
        (NET + STEM + "[merge_expand]\n", "reads layer -3, which does not come before it"),
        (NET + STEM + "[pass_through0]\n", "reads layer 8, which does not come before it"),
        (NET + STEM + "[reorg]\nstride=3\n", "cannot divide 8 channels by 9"),
        (NET + STEM + COARSE * 2 + "[reorg]\nstride=2\n", "cannot divide a map of 5 x 5 by 2"),
        (NET + STEM + "[maxpool]\nsize=2\npadding=2\n", "padding=2, which is not less"),
        (NET + STEM + OUTPUT.replace("14\n", "18\n"), "reads 18 channels, but 2 .* need 14"),
        (NET + STEM + OUTPUT.replace("1,2\n", "1,3\n"), "a mask that points outside its 3"),
        (NET + STEM + OUTPUT.replace("58", "58,5"), "needs 3 pairs of positive anchors"),
        (NET + STEM + OUTPUT.replace("58", "nan"), "not a list of numbers"),
        (NET + STEM + OUTPUT + "new_coords=1\n", "only supported behind .* activation=logistic"),
        (
            NET + STEM + NEW_COORDS + "[route]\nlayers=1\n" + NEW_COORDS.partition("[yolo]")[2],
            "only supported behind a .convolutional. of its own",
        ),
        (NET + STEM + OUTPUT + "[route]\nlayers=0\n" + NEW_COORDS, "outputs differ in kind"),
        (NET.replace("height", "width=32\nheight") + STEM, "line 3 gives .* another 'width'"),
        (NET + "channels=1\n" + STEM, "line 5 gives .net. at line 1 another 'channels'"),
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
    text = "# head\n\n[network]\n width = 3 20 # why\r\n;no\n[conv]\nfilters=8\nfilters=8\n"
    text += "[max]\n[avg]\n"
    assert parse_cfg(text) == [
        Section("net", 3, {"width": "320"}),
        Section("convolutional", 6, {"filters": "8"}),
        Section("maxpool", 9),
        Section("avgpool", 10),
    ]


def test_a_key_that_does_not_matter_may_have_two_values() -> None:
    """Public cfgs give the batch of testing, then that of training."""
    twice = NET + "batch=1\nsubdivisions=1\nbatch=64\nsubdivisions=16\n"
    cfg = STEM + OUTPUT + "jitter=.2\njitter=.3\n"
    once = DarknetNetwork(parse_cfg(NET + cfg))
    assert DarknetNetwork(parse_cfg(twice + cfg)).grid == once.grid


def test_lines_end_where_darknet_ends_them() -> None:
    """Not at the other characters that Python's splitlines knows, which a comment may hold."""
    text = "[net]\rwidth=320 # a\x85height=1\x0b\u2028b=2\r\nheight=160\n"
    assert parse_cfg(text) == [Section("net", 1, {"width": "320", "height": "160"})]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("width=1\n[net]", "line 1, 'width=1', comes before the first"),
        ("[net]\nwidth", "line 2, 'width', is neither"),
        ("[net]\n=3", "line 2, '=3', is neither"),
        ("[net]\nwidth=", "line 2, 'width=', is neither"),
        ("[net\n", "line 1, '\\[net', is not a \\[section\\]"),
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

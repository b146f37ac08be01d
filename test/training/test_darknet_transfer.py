# SPDX-License-Identifier: Apache-2.0
"""Detectors of the registry against their cfg files: weights go over, and mean the same there."""

from __future__ import annotations

from pathlib import Path

import darknet_reference as reference
import pytest
import torch
from darknet_cfgs import CFGS, CLASSES, tinier_yolo
from torch import nn

from compact_yolo_ros.detection.detector import Detector
from training.darknet.cfg import DarknetError, parse_cfg
from training.darknet.network import DarknetNetwork
from training.darknet.transfer import transferred
from training.darknet.weights import ConvolutionWeights, parse_weights
from training.detectors.blocks import ConvNormAct
from training.detectors.registry import build
from training.import_darknet import import_darknet
from training.loop.checkpoint import load_detector


def random_detector(name: str) -> nn.Module:
    """A detector whose maps depend on the whole image, however deep it is."""
    detector = build(name, num_classes=CLASSES).eval()
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.7)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return detector


def stored(detector: nn.Module) -> bytes:
    """All values in darknet's order: shift, scale, mean, variance, kernel; or bias, kernel."""
    values, done = [], set()
    for module in detector.modules():
        if isinstance(module, ConvNormAct):
            norm = module.norm
            values += [norm.bias, norm.weight, norm.running_mean, norm.running_var]
            values.append(module.conv.weight)
            done.add(module.conv)
        elif isinstance(module, nn.Conv2d) and module not in done:
            values += [module.bias, module.weight]
    return b"".join(v.detach().numpy().astype("<f4").tobytes() for v in values)


def loaded(cfg: str, data: bytes) -> tuple[DarknetNetwork, list[ConvolutionWeights]]:
    network = DarknetNetwork(parse_cfg(cfg))
    shapes = [layer.stored for layer in network.convolutions]
    weights = parse_weights(reference.HEADER + data, shapes)
    network.load(weights)
    return network.eval(), weights


@pytest.mark.parametrize("name", CFGS)
def test_a_detector_is_the_network_of_its_cfg(name: str) -> None:
    original = random_detector(name)
    network, weights = loaded(CFGS[name], stored(original))
    # raises if the two compute different maps
    detector = transferred(name, network, weights)
    expected, found = original.state_dict(), detector.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    scales = original.grid.xy_scales or (1.0,) * len(original.grid.strides)
    assert detector.grid.xy_scales == scales
    assert (detector.grid.strides, detector.grid.softmax) == (
        original.grid.strides,
        original.grid.softmax,
    )
    for ours, theirs in zip(detector.grid.anchors, original.grid.anchors, strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), check_dtype=False)


def test_tinier_yolo_reads_what_routes_with_numbers_read() -> None:
    """The kinds of layers of its authors' darknet, against the layer numbers written out."""
    data = stored(random_detector("tinier_yolo"))
    image = torch.rand(1, 3, 64, 64)
    own, plain = (loaded(tinier_yolo(kinds), data)[0](image) for kinds in (True, False))
    for ours, theirs in zip(own, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


FASTEST = CFGS["yolo_fastest"]
NEW_COORDS = FASTEST.replace("linear\n\n[yolo]", "logistic\n\n[yolo]\nnew_coords=1")


@pytest.mark.parametrize(
    ("name", "cfg", "sentence"),
    [
        ("yolo_slow", FASTEST, "there is no detector yolo_slow: give one of .*yolo_fastest"),
        ("yolo_ret_m075", FASTEST, "its outputs are different"),
        ("yolo_fastest", NEW_COORDS, "its outputs are different"),
        ("yolo_fastest_v1_0", FASTEST, "it has 85 convolutions, the cfg 84"),
        ("yolo_fastest_xl", FASTEST, r"convolution 1 has a kernel of \(16, 3, 3, 3\) and norm"),
        ("yolo_fastest", FASTEST.replace("leaky", "relu"), "its results are different"),
        ("yolo_fastest", FASTEST.replace("size=9", "size=7"), "its results are different"),
    ],
)
def test_another_network_than_the_cfg_is_refused(name: str, cfg: str, sentence: str) -> None:
    network, weights = loaded(cfg, stored(random_detector("yolo_fastest")))
    with pytest.raises(DarknetError, match=sentence):
        transferred(name, network, weights)


def write_files(folder: Path, cfg: str, detector: nn.Module) -> dict[str, Path]:
    files = {name: folder / f"net.{name}" for name in ("cfg", "weights", "names")}
    files["cfg"].write_text(cfg)
    files["weights"].write_bytes(reference.HEADER + stored(detector))
    files["names"].write_text("ball\nrobot\n")
    return files


def test_the_importer_writes_a_checkpoint(tmp_path: Path) -> None:
    original = random_detector("yolo_fastest")
    out = tmp_path / "start.pt"
    import_darknet(**write_files(tmp_path, FASTEST, original), out=out, detector="yolo_fastest")
    detector, checkpoint = load_detector(out)
    assert checkpoint["classes"] == ["ball", "robot"]
    expected = original.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in detector.state_dict().items())


def test_a_checkpoint_that_finds_no_room_is_told(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr("torch.save", full)
    torch.manual_seed(0)
    files = write_files(tmp_path, FASTEST, random_detector("yolo_fastest"))
    with pytest.raises(DarknetError, match="cannot be written: .*failed writing file"):
        import_darknet(**files, out=tmp_path / "start.pt", detector="yolo_fastest")


def test_a_checkpoint_that_would_lose_the_anchors_is_refused(tmp_path: Path) -> None:
    cfg = FASTEST.replace("12,18", "13,18")
    files = write_files(tmp_path, cfg, random_detector("yolo_fastest"))
    with pytest.raises(DarknetError, match="does not keep anchors, and those of the cfg are not"):
        import_darknet(**files, out=tmp_path / "start.pt", detector="yolo_fastest")
    with pytest.raises(DarknetError, match="for the model card, which a checkpoint does not have"):
        import_darknet(
            **files, out=tmp_path / "start.pt", detector="yolo_fastest", licence="Public domain"
        )
    assert not (tmp_path / "start.pt").exists()


@pytest.mark.slow
def test_the_importer_writes_the_detector(tmp_path: Path) -> None:
    files = write_files(tmp_path, CFGS["tinier_yolo"], random_detector("tinier_yolo"))
    import_darknet(**files, out=tmp_path / "own.onnx", detector="tinier_yolo")
    import_darknet(**files, out=tmp_path / "cfg.onnx")
    own, built = (Detector.open(str(tmp_path / f"{name}.onnx")) for name in ("own", "cfg"))
    assert (own.card.detector, own.card.strides) == ("tinier_yolo", (16, 32))
    assert own.card.parameters == built.card.parameters
    noise = torch.randint(0, 256, own.backend.input.shape, dtype=torch.uint8).numpy()
    for detector in (own, built):
        detector.backend.input[...] = noise
    scores = [torch.tensor(detector.backend.run()[1]) for detector in (own, built)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-4)

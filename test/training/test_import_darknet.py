# SPDX-License-Identifier: Apache-2.0
"""The darknet importer from files to a detector, and against OpenCV 4 where that can be had.

Two environment variables let the slow tests run; without them they are skipped:
COMPACT_YOLO_DARKNET is a folder with public NAME.cfg and NAME.weights, COMPACT_YOLO_OPENCV4 a
Python that imports OpenCV 4 (5 has no darknet importer).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import cv2
import darknet_reference as reference
import numpy as np
import onnx
import onnxruntime
import pytest
from skimage import data as skimage_data

import training.darknet.weights
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.letterbox import Placement
from training import import_darknet as importer
from training.darknet.cfg import DarknetError

HERE = Path(__file__).parent
STORED = HERE / "data" / "yolo_fastest_1.1_opencv4.json"
CLASSES = ("ball", "robot")
# Every kind of layer, as the YOLO families use them.
CFG = """
[net]
width=160
height=160
[convolutional]
filters=8
size=3
stride=8
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=8
size=3
pad=1
groups=8
batch_normalize=1
activation=mish
[dropout]
probability=.2
[shortcut]
from=-3
activation=linear
[route]
layers=-1
groups=2
group_id=1
[convolutional]
filters=12
size=1
batch_normalize=1
activation=swish
[maxpool]
size=2
stride=2
[maxpool]
size=2
stride=1
[route]
layers=3
[reorg]
stride=2
[route]
layers=-1,-3
[convolutional]
filters=12
size=1
batch_normalize=1
activation=relu
[convolutional]
filters=21
size=1
activation=linear
[yolo]
mask=3,4,5
anchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319
classes=2
num=6
[route]
layers=-3
[upsample]
stride=2
[route]
layers=-1,5
[convolutional]
filters=21
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319
classes=2
num=6
scale_x_y=1.05
"""
REGION_CFG = """
[net]
width=160
height=160
[convolutional]
filters=8
size=3
stride=32
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=16
size=1
activation=linear
[region]
anchors=1.08,1.19, 3.4,4.4
classes=3
num=2
coords=4
softmax=1
"""


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def compute(cfg: str, image: np.ndarray) -> reference.Result:
    return reference.run(cfg, (image.transpose(2, 0, 1) / 255).astype(np.float32))


def write_files(folder: Path, cfg: str, weights: bytes, classes: int) -> dict[str, Path]:
    files = {name: folder / f"net.{name}" for name in ("cfg", "weights", "names")}
    files["cfg"].write_text(cfg)
    files["weights"].write_bytes(reference.HEADER + weights)
    files["names"].write_text("".join(f"{n}\n" for n in ["ball", "robot", "goal"][:classes]))
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    weights = compute(CFG, picture(160, 160)).weights
    return write_files(tmp_path_factory.mktemp("darknet"), CFG, weights, 2)


@pytest.fixture(scope="module")
def model(files: dict[str, Path]) -> Path:
    out = files["cfg"].with_name("toy.onnx")
    importer.import_darknet(**files, out=out, licence="Public domain", data="Noise")
    return out


# Unequal shortcuts, and a head with new coordinates.
MODERN = """
[net]
width=160
height=160
batch=1
batch=64
[convolutional]
filters=8
size=3
stride=8
pad=1
batch_normalize=1
activation=swish
[avgpool]
[convolutional]
filters=8
size=1
activation=logistic
[scale_channels]
from=-3
[convolutional]
filters=12
size=1
batch_normalize=1
activation=swish
[shortcut]
from=-2
activation=linear
[convolutional]
filters=5
size=1
batch_normalize=1
activation=leaky
[shortcut]
from=-2
activation=leaky
[convolutional]
filters=14
size=1
activation=logistic
[yolo]
mask=1,2
anchors=10,14, 23,27, 37,58
classes=2
num=3
new_coords=1
scale_x_y=2.0
"""


def sized(cfg: str, height: int, width: int) -> str:
    return cfg.replace("width=160", f"width={width}").replace("height=160", f"height={height}")


@pytest.mark.parametrize(
    ("cfg", "height", "width"),
    [
        (MODERN, 192, 320),
        (MODERN, 56, 56),
        (REGION_CFG, 90, 300),
    ],
)
def test_a_network_runs_at_the_size_of_its_cfg(
    cfg: str, height: int, width: int, tmp_path: Path
) -> None:
    """Whatever that is; boxes and scores are those that darknet defines."""
    cfg, image = sized(cfg, height, width), picture(height, width)
    expected = compute(cfg, image)
    files = write_files(tmp_path, cfg, expected.weights, 3 if "[region]" in cfg else 2)
    importer.import_darknet(**files, out=tmp_path / "own.onnx")
    detector = Detector.open(str(tmp_path / "own.onnx"), selection=Selection(0.0, 1.0, 300))
    assert detector.backend.input.shape == (1, height, width, 3)
    detector.backend.input[0] = image
    boxes, scores, labels = (rows[0] for rows in detector.backend.run())
    reference.assert_candidates(boxes, scores, labels, expected)


def test_a_rectangular_network_keeps_its_figures(tmp_path: Path) -> None:
    """The card has the shape of the cfg, and costs at the sizes that all networks run at."""
    cfg = sized(MODERN, 192, 320)
    files = write_files(tmp_path, cfg, compute(cfg, picture(192, 320)).weights, 2)
    network, _ = importer.read_network(files["cfg"], files["weights"])
    card = importer.card_of("own", network, CLASSES, files["cfg"], files["weights"])
    assert (card.default_size, card.default_height, card.any_size) == (320, 192, False)
    assert set(card.gmacs) == {"224", "320", "416"}
    assert card.strides == (8,)


def test_comments_may_be_in_any_encoding(files: dict[str, Path], tmp_path: Path) -> None:
    """Of cfg files from other countries only the comments are not ASCII."""
    comment = "# 训练 \x85\n".encode("gb18030") + b"; caf\xe9 \x85 \xff\xfe\n"
    weights = files["weights"].read_bytes()
    parsed = []
    for cfg in (CFG.encode(), CFG.replace("\n", " #\xe9\n").encode("latin-1") + comment):
        (tmp_path / "net.cfg").write_bytes(cfg)
        (tmp_path / "net.weights").write_bytes(weights)
        network, _ = importer.read_network(tmp_path / "net.cfg", tmp_path / "net.weights")
        parsed.append((network.kinds, network.grid))
    assert parsed[0] == parsed[1]


@pytest.mark.parametrize(("height", "width"), [(160, 160), (192, 224)])
def test_the_file_computes_what_darknet_defines(model: Path, height: int, width: int) -> None:
    image = picture(height, width)
    session = onnxruntime.InferenceSession(str(model))
    boxes, scores, labels = session.run(None, {"images": np.stack((image, image[::-1]))})
    expected = compute(CFG, image)
    order = np.argsort(-np.max(expected.scores, 1))[:300]
    assert boxes.shape == (2, 300, 4)
    assert labels.dtype == np.int32
    np.testing.assert_allclose(scores[0], np.max(expected.scores, 1)[order], atol=1e-4)
    np.testing.assert_allclose(boxes[0], np.array(expected.boxes)[order], rtol=1e-3, atol=5e-3)
    np.testing.assert_array_equal(labels[0], np.argmax(expected.scores, 1)[order])


def test_the_graph_is_as_plain_as_the_cfg(model: Path) -> None:
    operators = Counter(node.op_type for node in onnx.load(model).graph.node)
    assert operators["Conv"] == CFG.count("[convolutional]")
    assert operators["MaxPool"] == CFG.count("[maxpool]")
    assert operators["Resize"] == CFG.count("[upsample]")
    assert not {"BatchNormalization", "Pad", "Dropout", "Loop", "If", "NonZero"} & set(operators)


def test_the_package_runs_the_file_by_its_card(files: dict[str, Path], model: Path) -> None:
    detector = Detector.open(str(model), selection=Selection(0.0, 1.0, 300))
    card = detector.card
    assert (card.name, card.detector, card.classes) == ("toy", "darknet", CLASSES)
    assert (card.default_size, card.resize) == (160, "stretch")
    assert card.strides == (16, 8)
    assert card.anchors[1] == ((10, 14), (23, 27), (37, 58))
    assert (card.licence, card.data) == ("Public domain", "Noise")
    assert card.weights_sha256 == hashlib.sha256(files["weights"].read_bytes()).hexdigest()
    assert hashlib.sha256(files["cfg"].read_bytes()).hexdigest() in card.recipe
    kernels = 216 + 72 + 48 + 528 + 252 + 504
    assert card.parameters == kernels + 2 * (8 + 8 + 12 + 12) + 21 + 21
    # stretched: a picture of twice the height gives boxes of twice the height
    image = picture(160, 160)
    once, twice = (detector.detect(i, "rgb") for i in (image, image.repeat(2, 0)))
    top = once.boxes[0] * (1, 2, 1, 2)
    assert np.abs(twice.boxes - top).max(1).min() < 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cfg": None}, r"net\.cfg: it cannot be read: No such file or directory"),
        ({"weights": None}, r"net\.weights: it cannot be read: No such file"),
        ({"names": None}, r"net\.names: it cannot be read: No such file"),
        (
            {"cfg": CFG.replace("reorg", "rotate").encode()},
            r"net\.cfg: \[rotate\] at line 41 is not",
        ),
        ({"cfg": bytes(range(256))}, r"net\.cfg: it is not a text file"),
        (
            {"weights": reference.HEADER + bytes(500)},
            r"net\.weights: the file ends within the \[conv",
        ),
        ({"weights": b"<html>not found</html>"}, r"net\.weights: the file does not begin with"),
        ({"names": b"ball\n"}, r"net\.names: it names 1 classes, but the cfg has 2"),
        ({"names": b"ball\nrobot\ngoal\n"}, r"net\.names: it names 3 classes"),
        ({"names": "Türe\nball\n".encode("latin-1")}, r"net\.names: it is not in UTF-8: save it"),
        ({"names": b"ball\nball\n"}, r"net\.names: a line is empty, or two are the same"),
    ],
)
def test_unusable_input_gives_one_sentence(
    files: dict[str, Path], tmp_path: Path, change: dict[str, bytes | None], sentence: str
) -> None:
    for name, path in files.items():
        content = change.get(name, path.read_bytes())
        if content is not None:
            (tmp_path / path.name).write_bytes(content)
    out = tmp_path / "old.onnx"
    out.write_bytes(b"old")
    before = set(tmp_path.iterdir())
    with pytest.raises(DarknetError, match=sentence) as error:
        importer.import_darknet(**{n: tmp_path / p.name for n, p in files.items()}, out=out)
    assert len(str(error.value).splitlines()) == 1
    assert out.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["model.pt", "nowhere/model.onnx"])
def test_a_result_that_could_not_be_used_is_refused(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(DarknetError, match="ends in .onnx, in a folder that exists"):
        importer.import_darknet(**files, out=tmp_path / name)


def arguments(files: dict[str, Path], out: Path) -> list[str]:
    paths = [item for name, path in files.items() for item in (f"--{name}", str(path))]
    return ["import_darknet", *paths, "--out", str(out), "--licence", "Public domain"]


def test_the_command_writes_a_file_and_a_summary(
    files: dict[str, Path], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("sys.argv", arguments(files, tmp_path / "m.onnx"))
    importer.main()
    printed = capsys.readouterr().out
    for words in ("6 convolutional", "1,742", "2: ball to robot", "160 x 160, stretch", "16, 8"):
        assert words in printed
    assert onnx.load(tmp_path / "m.onnx").metadata_props


def test_errors_of_the_command_are_one_sentence(
    files: dict[str, Path], tmp_path: Path, monkeypatch
) -> None:
    lost = files | {"weights": tmp_path / "lost.weights"}
    monkeypatch.setattr("sys.argv", arguments(lost, tmp_path / "m.onnx"))
    with pytest.raises(SystemExit) as end:
        importer.main()
    assert str(end.value.code).endswith(
        "lost.weights: it cannot be read: No such file or directory"
    )


# --- against OpenCV 4 ---

THRESHOLD = 0.25
PICTURES = ("astronaut", "chelsea", "coffee")


@pytest.fixture(scope="module")
def opencv4() -> str:
    python = os.environ.get("COMPACT_YOLO_OPENCV4")
    if not python:
        pytest.skip("COMPACT_YOLO_OPENCV4 names no Python with OpenCV 4")
    return python


def public_weights() -> list[Path]:
    folder = os.environ.get("COMPACT_YOLO_DARKNET")
    paths = sorted(Path(folder).glob("*.weights")) if folder else []
    return [path for path in paths if path.with_suffix(".cfg").exists()]


@pytest.fixture
def epsilon_of_opencv(monkeypatch) -> None:
    """OpenCV adds 1e-6 to a variance, darknet's training 1e-5: worth 0.001 of a score."""
    monkeypatch.setattr(training.darknet.weights, "EPS", 1e-6)


def pictures() -> dict[str, np.ndarray]:
    return {name: getattr(skimage_data, name)() for name in PICTURES}


def opencv_candidates(
    python: str,
    cfg: Path,
    weights: Path,
    images: dict,
    folder: Path,
    size: Size,
    threshold: float = THRESHOLD,
) -> dict:
    np.savez(folder / "pictures.npz", **images)
    command = [
        *(python, str(HERE / "opencv_darknet.py"), "--cfg", str(cfg), "--weights", str(weights)),
        *("--pictures", str(folder / "pictures.npz"), "--size", *map(str, size)),
        *("--threshold", str(threshold)),
    ]
    # not the environment of these tests, whose packages the other Python must not see
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)["pictures"]


def our_candidates(cfg: Path, weights: Path, images: dict, folder: Path, size: Size) -> dict:
    """Candidates before suppression: rows of x1, y1, x2, y2 in picture pixels, score, label."""
    network, _ = importer.read_network(cfg, weights)
    names = folder / "classes.names"
    names.write_text("".join(f"class {number}\n" for number in range(network.num_classes)))
    importer.import_darknet(cfg, weights, names, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    found = {}
    for name, image in images.items():
        place = Placement.fit(image.shape[1::-1], size, "stretch")
        boxes, scores, labels = session.run(None, {"images": cv2.resize(image, size)[None]})
        scale = (place.scale_x, place.scale_y) * 2
        found[name] = np.column_stack((boxes[0] / scale, scores[0], labels[0]))
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def assert_same(
    ours: dict, theirs: dict, threshold: float = THRESHOLD, suppressed: bool = False
) -> None:
    """Every one of their candidates is ours, and no other of ours is above the threshold."""
    for name, expected in theirs.items():
        rest = [row for row in ours[name] if row[4] >= threshold - 1e-3]
        for row in np.array(expected):
            alike = [i for i, r in enumerate(rest) if r[5] == row[5] and abs(r[4] - row[4]) <= 1e-4]
            best = max(alike, key=lambda i: overlap(rest[i][:4], row[:4]), default=None)
            assert best is not None, f"{name}: {row} is not among ours"
            assert overlap(rest[best][:4], row[:4]) >= 0.999
            rest.pop(best)
        assert suppressed or all(row[4] < threshold + 1e-3 for row in rest)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width"), [(160, 160), (192, 320), (56, 56), (100, 72)], ids=lambda side: str(side)
)
@pytest.mark.parametrize(
    "cfg", [CFG, REGION_CFG, MODERN], ids=["yolo", "region", "squeezed, new coordinates"]
)
def test_networks_of_noise_are_those_of_opencv(
    cfg: str, height: int, width: int, opencv4: str, tmp_path: Path, epsilon_of_opencv
) -> None:
    if cfg == CFG and (height, width) not in [(160, 160), (192, 320)]:
        pytest.skip("the layers that reduce its map do not fit this size")
    # OpenCV drops scores below this
    cfg = sized(cfg, height, width).replace("classes=", "thresh=.01\nclasses=")
    size = Size(width, height)
    images = {"noise": picture(height, width)}
    weights = compute(cfg, images["noise"]).weights
    paths = write_files(tmp_path, cfg, weights, 2)
    pair = paths["cfg"], paths["weights"]
    # OpenCV suppresses within the [region] layer, of every class by itself: of a box whose best
    # class was suppressed, another one is left, with a low score
    suppressed = "[region]" in cfg
    least = 0.2 if suppressed else 0.02
    rows = opencv_candidates(opencv4, *pair, images, tmp_path, size, least)["noise"][:100]
    assert len(rows) > 1
    ours = our_candidates(*pair, images, tmp_path, size)
    assert_same(ours, {"noise": rows}, rows[-1][4], suppressed)


@pytest.mark.slow
@pytest.mark.parametrize("size", [320, 416])
@pytest.mark.parametrize("weights", public_weights() or [None], ids=lambda path: path and path.stem)
def test_public_networks_are_those_of_opencv(
    weights: Path | None, size: int, opencv4: str, tmp_path: Path, epsilon_of_opencv
) -> None:
    if weights is None:
        pytest.skip("COMPACT_YOLO_DARKNET names no folder with NAME.cfg and NAME.weights")
    pair = weights.with_suffix(".cfg"), weights
    square = Size.square(size)
    theirs = opencv_candidates(opencv4, *pair, pictures(), tmp_path, square)
    assert sum(map(len, theirs.values())) > 5
    assert_same(our_candidates(*pair, pictures(), tmp_path, square), theirs)


@pytest.mark.slow
def test_a_public_network_finds_what_opencv_found_once(tmp_path: Path, epsilon_of_opencv) -> None:
    stored = json.loads(STORED.read_text())
    origin = stored["origin"]
    for weights in public_weights():
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        if digest == origin["weights_sha256"]:
            break
    else:
        pytest.skip(f"COMPACT_YOLO_DARKNET has no {origin['weights']}")
    found = our_candidates(
        weights.with_suffix(".cfg"), weights, pictures(), tmp_path, Size.square(origin["size"])
    )
    assert_same(found, stored["pictures"])

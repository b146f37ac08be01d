# SPDX-License-Identifier: Apache-2.0
"""Make one ONNX detector of a darknet cfg, its weights and its class names.

    python -m training.import_darknet --cfg yolo-fastest-1.1.cfg --names coco.names \
        --weights yolo-fastest-1.1.weights --licence "YOLO LICENSE Version 2" \
        --out yolo_fastest_coco.onnx

The result is a model like every other, used by its path: model:=yolo_fastest_coco.onnx.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.terminal import open_console, pairs_table
from training.darknet.cfg import DarknetError, parse_cfg
from training.darknet.network import DarknetNetwork
from training.darknet.transfer import decodes_by_default, transferred
from training.darknet.weights import ConvolutionWeights, parse_weights
from training.deployment.model_card import SIZES
from training.deployment.onnx_export import export
from training.detectors.complexity import macs
from training.detectors.interface import Network
from training.loop.checkpoint import save_checkpoint

NOT_STATED = "Not stated by the person who imported the file."


def read_network(cfg: Path, weights: Path) -> tuple[DarknetNetwork, list[ConvolutionWeights]]:
    """Build the network of a cfg file, and load the values of a weights file.

    Returns:
        The network in evaluation mode, and the values.

    Raises:
        DarknetError: a file cannot be used; the sentence begins with the file.
    """
    text = _read_cfg(cfg)
    try:
        network = DarknetNetwork(parse_cfg(text))
    except DarknetError as error:
        raise DarknetError(f"{cfg}: {error}") from None
    data = _read(weights)
    try:
        values = parse_weights(data, [layer.stored for layer in network.convolutions])
    except DarknetError as error:
        raise DarknetError(f"{weights}: {error}") from None
    network.load(values)
    return network.eval(), values


def read_names(path: Path, count: int) -> tuple[str, ...]:
    """Read class names, one on each line.

    Args:
        path: the file.
        count: number of classes.

    Raises:
        DarknetError: the file cannot be read, or has another number of different names.
    """
    names = tuple(name.strip() for name in _read_text(path).rstrip().splitlines())
    if len(names) != count:
        raise DarknetError(f"{path}: it names {len(names)} classes, but the cfg has {count}")
    if "" in names or len(set(names)) != count:
        raise DarknetError(f"{path}: a line is empty, or two are the same: name every class once")
    return names


def card_of(
    name: str,
    network: DarknetNetwork,
    classes: tuple[str, ...],
    cfg: Path,
    weights: Path,
    licence: str = "",
    data: str = "",
    detector: str = "",
) -> ModelCard:
    """Build the card of an imported network.

    Args:
        name: of the model.
        network: of the cfg.
        classes: class names.
        cfg: its file.
        weights: their file.
        licence: as the user states it.
        data: what it was trained on, as the user states it.
        detector: name of the same network in the registry; empty: it is not there.
    """
    height, width = network.input[1:]
    return ModelCard(
        name=name,
        detector=detector or "darknet",
        classes=classes,
        default_size=width,
        default_height=0 if height == width else height,
        any_size=network.any_size,
        resize="letterbox" if network.letterbox else "stretch",
        anchors=network.grid.anchors,
        strides=network.grid.strides,
        parameters=network.trained_values,
        gmacs={str(size): round(macs(network, size, size) / 1e9, 3) for size in _squares(network)},
        data=data or NOT_STATED,
        licence=licence or NOT_STATED,
        recipe=f"Imported from darknet: {cfg.name} (SHA-256 {_digest(cfg)}) and {weights.name}.",
        weights_sha256=_digest(weights),
    )


def _squares(network: DarknetNetwork) -> tuple[int, ...]:
    """Sides of the inputs that the card has figures for."""
    if not network.any_size:
        return SIZES
    height, width = network.input[1:]
    return (width,) if width == height else ()


def import_darknet(
    cfg: Path,
    weights: Path,
    names: Path,
    out: Path,
    licence: str = "",
    data: str = "",
    detector: str = "",
) -> tuple[ModelCard, DarknetNetwork]:
    """Write a model file of a darknet network.

    Args:
        cfg: description of the network.
        weights: its trained values.
        names: class names, one on each line.
        out: ONNX file to write; with ``detector`` also a checkpoint (.pt).
        licence: of the weights, for the card.
        data: what they were trained on, for the card.
        detector: write this detector of the registry, which must be the same network.

    Returns:
        The card, and the network of the cfg.

    Raises:
        DarknetError: an input cannot be used; ``out`` is unchanged.
    """
    endings = (".onnx", ".pt") if detector else (".onnx",)
    if out.suffix not in endings or not out.parent.is_dir():
        allowed = " or ".join(endings)
        raise DarknetError(f"{out}: give a name that ends in {allowed}, in a folder that exists")
    if out.suffix == ".pt" and (licence or data):
        raise DarknetError(
            "--licence and --data are for the model card, which a checkpoint does not have: give "
            "them to training.export, in the file of --words"
        )
    network, values = read_network(cfg, weights)
    classes = read_names(names, network.num_classes)
    deployed: Network = transferred(detector, network, values) if detector else network
    card = card_of(out.stem, network, classes, cfg, weights, licence, data, detector)
    card = replace(card, anchors=deployed.grid.anchors, strides=deployed.grid.strides)
    try:
        if out.suffix == ".onnx":
            export(deployed, out, card)
        else:
            _save(detector, deployed, classes, out)
    except OSError as error:
        raise DarknetError(f"{out}: it cannot be written: {reason(error)}") from None
    return card, network


def _save(name: str, detector: Network, classes: tuple[str, ...], out: Path) -> None:
    if not decodes_by_default(name, detector.grid):
        raise DarknetError(
            f"{out}: a checkpoint does not keep anchors, and those of the cfg are not "
            f"{name}'s own: give a name that ends in .onnx"
        )
    content = {"detector": name, "classes": list(classes), "average": detector.state_dict()}
    save_checkpoint(out, content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DarknetError(f"{path}: it cannot be read: {error.strerror}") from None


def _read_cfg(path: Path) -> str:
    """Return the text of a cfg file; what is not UTF-8 can only be a part of a comment."""
    data = _read(path)
    if b"\0" in data:
        raise DarknetError(f"{path}: it is not a text file")
    return data.decode("utf-8-sig", "replace")


def _read_text(path: Path) -> str:
    try:
        return _read(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DarknetError(f"{path}: it is not in UTF-8: save it as UTF-8") from None


def _digest(path: Path) -> str:
    return hashlib.sha256(_read(path)).hexdigest()


def _summary(card: ModelCard, network: DarknetNetwork, out: Path) -> list[tuple[str, str]]:
    kinds = Counter(network.kinds)
    gmacs = ", ".join(f"{value:.3f} at {size}" for size, value in card.gmacs.items())
    facts = {
        "layers": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        "parameters": f"{card.parameters:,}",
        "GMAC": gmacs,
        "classes": f"{len(card.classes)}: {card.classes[0]} to {card.classes[-1]}",
        "input": f"{network.input.width} x {network.input.height}, {card.resize}",
        "strides": ", ".join(map(str, card.strides)),
        "licence": card.licence,
        "size": f"{out.stat().st_size / 1e6:.2f} MB",
    }
    return [*facts.items()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Make one ONNX detector of a darknet cfg, its weights and its class names.",
        epilog="The result is a model like every other: give its path as model:=FILE.onnx.",
    )
    parser.add_argument("--cfg", type=Path, required=True, help="description of the network")
    parser.add_argument("--weights", type=Path, required=True, help="its trained values")
    parser.add_argument("--names", type=Path, required=True, help="class names, one a line")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .onnx")
    parser.add_argument("--licence", default="", help="licence of the weights, for the model card")
    parser.add_argument("--data", default="", help="what they were trained on, for the model card")
    parser.add_argument(
        "--detector",
        default="",
        help="write this detector of the registry (yolo_fastest, ...), which must be the network "
        "of the cfg, instead of a network built from the cfg; --out may then end in .pt",
    )
    arguments = parser.parse_args()
    console = open_console()
    try:
        with console.status(Text(f"Importing {arguments.weights}")):
            card, network = import_darknet(**vars(arguments))
    except DarknetError as error:
        sys.exit(str(error))
    summary = _summary(card, network, arguments.out)
    console.print(pairs_table(summary, str(arguments.out)))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Store the weights of model files as float16, or as plain float32 for other tools.

    python -m training.repack models/*.onnx
    python -m training.repack yolo_ret_m075 --storage float32 --out plain.onnx

The first line rewrites files as ``training.export`` writes them, with their pages and entries in
the manifest; the cards inside stay. The second makes a file for tools that refuse a kernel behind a
Cast, as ``trtexec`` of TensorRT 8.

Rounding moves boxes by hundredths of a pixel, which now and then takes one across the IoU that AP
counts. ``--keep`` names the convolutions whose kernels then stay float32.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from google.protobuf.message import DecodeError

from compact_yolo_ros.model.store import ModelError, find_model
from training.deployment.onnx_export import save, write
from training.deployment.publishing import check_ending, publish
from training.deployment.weight_storage import read_graph


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Change how model files store their weights.")
    parser.add_argument("models", nargs="+", help="ONNX files, or names of models")
    parser.add_argument("--storage", choices=("float16", "float32"), default="float16")
    parser.add_argument(
        "--keep",
        nargs="*",
        action="extend",
        default=[],
        help="convolutions whose kernels stay float32 (names, * allowed)",
    )
    parser.add_argument("--out", type=Path, help="file to write, for one model; else in place")
    arguments = parser.parse_args()
    try:
        _repack(arguments)
    except (DecodeError, ModelError, ValueError, OSError) as error:
        print(f"training.repack: {error}", file=sys.stderr)
        return 1
    return 0


def _repack(arguments: argparse.Namespace) -> None:
    if arguments.out:
        check_ending(arguments.out)
        if len(arguments.models) > 1:
            raise ValueError("--out is one file: give one model")
    elif arguments.storage == "float32":
        raise ValueError("--storage float32 is for other tools: give a file to write as --out")
    if arguments.keep and arguments.storage == "float32":
        raise ValueError("--keep goes with --storage float16")
    for name in arguments.models:
        model = find_model(name)
        before, out = model.path.stat().st_size, arguments.out or model.path
        graph = read_graph(model.path)
        if arguments.storage == "float32":
            write(graph, out)
        else:
            save(graph, model.card, out, arguments.keep)
        if not arguments.out:
            publish(model.card, out)
        print(f"{out}: {before / 1e6:.2f} MB -> {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())

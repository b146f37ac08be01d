# SPDX-License-Identifier: Apache-2.0
"""Examine this machine and say what to fix before a detector node runs well on it.

It prints versions, devices, cameras, transports, permissions, power sources, models and backends:
each line is OK, a note or a problem, with what to do. The exit code is 1 if there is a problem.
With --gpu it also proves TensorRT on this machine, which takes minutes: it builds engines, compares
their outputs with ONNX Runtime's on the CPU, and measures time, memory and power.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.doctor.all_probes import DoctorOptions, examine, exit_code
from compact_yolo_ros.apps.doctor.probe import Finding, Level, Surroundings
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.support.arguments import width_x_height
from compact_yolo_ros.support.termination import (
    INTERRUPTED,
    UNREAD,
    discard_output,
    terminable,
)

WIDTH = 100
"""Columns of the report."""

Report = Iterable[tuple[str, Finding]]


def main(arguments: list[str] | None = None) -> int:
    """Examine the machine, print the report and return the exit code."""
    given = _parse(arguments)
    report = examine(
        DoctorOptions(
            Surroundings(Path("/"), dict(os.environ)),
            given.model,
            given.image_size,
            given.listen,
            given.gpu,
        )
    )
    try:
        with terminable():  # ends the probe that runs, which may build an engine
            return exit_code(_as_json(report) if given.json else _as_text(report))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe
        discard_output()
        return UNREAD
    except OSError as error:  # the disk to which the report goes is full
        print(f"doctor: the report cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="also prove TensorRT on this machine")
    parser.add_argument("--json", action="store_true", help="write the findings as JSON")
    parser.add_argument(
        "--image-size",
        type=width_x_height,
        metavar="WIDTHxHEIGHT",
        help="of the camera's images in pixels, for example 1920x1080 [of the cameras found]",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, or path of an .onnx file")
    parser.add_argument(
        "--listen",
        type=_seconds,
        default=4.0,  # Fast DDS repeats an announcement that was missed after three seconds
        metavar="SECONDS",
        help="longest time to look for cameras [4]",
    )
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 to 3600")


def _as_text(report: Report) -> list[Finding]:
    """Print each finding as it comes, then the counts."""
    findings: list[Finding] = []
    last = ""
    for title, finding in report:
        if title != last:
            print(f"\n{title}" if last else title)
            last = title
        for line in _lines(finding):
            print(line, flush=True)
        findings.append(finding)
    count = Counter(finding.level for finding in findings)
    print(f"\nproblems: {count[Level.PROBLEM]}, notes: {count[Level.NOTE]}, OK: {count[Level.OK]}")
    return findings


def _lines(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"  {finding.level.value:8}{finding.name}: ", finding.found)
    if finding.remedy:
        yield from _wrapped("          -> ", finding.remedy)


def _wrapped(head: str, text: str) -> list[str]:
    """Wrap to lines of limited width; paths and commands stay whole, so that they can be copied."""
    return textwrap.wrap(
        head + text,
        WIDTH,
        subsequent_indent=" " * 13,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _as_json(report: Report) -> list[Finding]:
    sections: dict[str, list[dict[str, Any]]] = {}
    findings: list[Finding] = []
    for title, finding in report:
        sections.setdefault(title, []).append(asdict(finding))
        findings.append(finding)
    print(json.dumps({"exit_code": exit_code(findings), "sections": sections}, indent=1))
    return findings


if __name__ == "__main__":
    sys.exit(main())

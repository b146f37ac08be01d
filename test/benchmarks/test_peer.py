# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PEER = Path(__file__).with_name("peer.py")
ECHO = Path(__file__).parents[1] / "helpers" / "echo_node.py"
ARRAY, INFO = "vision_msgs/msg/Detection2DArray", "sensor_msgs/msg/CameraInfo"


def _node(kind: str, burn: int, skip: str, hold: int, *topics: str) -> dict:
    return {
        "command": " ".join(map(str, (sys.executable, ECHO, kind, burn, skip, hold, *topics))),
        "cameras": {topic: f"{topic}/answers" for topic in topics},
        "transport": "compressed" if "compressed" in topics[0] else "raw",
        "type": kind,
    }


def _run(folder: Path, nodes: dict, *options: str) -> subprocess.CompletedProcess:
    case = {"nodes": ["ours", "theirs"], "size": "64x48", "rate": 20, "peak": 40}
    file = folder / "comparison.yaml"
    file.write_text(yaml.safe_dump({"nodes": nodes, "cases": {"small": case}}))
    return subprocess.run(
        [sys.executable, PEER, file, "--rounds", "1", "--seconds", "1", *options],
        capture_output=True,
        text=True,
    )


@pytest.mark.ros
@pytest.mark.slow  # two processes are started and fed for two seconds
def test_figures_of_nodes_whose_costs_are_known(tmp_path: Path) -> None:
    nodes = {
        "ours": _node(ARRAY, 0, "all", 0, "/left/compressed", "/right/compressed"),
        "theirs": _node(INFO, 10, "skip", 100, "/front"),
    }
    out = tmp_path / "out.json"
    done = _run(tmp_path, nodes, "--out", str(out))
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())["small"]["figures"]
    # every second image has no answer, and costs 10 ms too
    assert figures["lost"]["first"] < 0.5 <= figures["lost"]["second"]
    assert figures["cpu_ms"]["second"] >= 20
    assert figures["age_ms_p50"]["second"] >= 10
    assert figures["cpu_ms"]["ratio"] < 1
    assert figures["pss_mb"]["second"] > figures["pss_mb"]["first"] + 80
    assert figures["answers_per_s"]["second"] <= 20
    assert figures["first_answer_s"]["ratio"] > 0
    assert "ours / theirs" in done.stdout


@pytest.mark.ros
def test_the_output_of_a_node_that_ends_is_shown(tmp_path: Path) -> None:
    broken = {"command": f"{sys.executable} -c 'exit(\"no such model\")'", "cameras": {"/a": "/b"}}
    done = _run(tmp_path, {"ours": broken, "theirs": broken})
    assert done.returncode == 1
    assert "no such model" in done.stderr

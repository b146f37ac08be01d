# SPDX-License-Identifier: Apache-2.0
"""The parameter ``power`` of the running node."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import Client, running, values_of

pytestmark = pytest.mark.ros
MODULE = "compact_yolo_ros.nodes.detector_node"


@pytest.mark.parametrize(("power", "told"), [("auto", True), ("none", False)])
def test_power_is_told_while_active_if_asked_for(power: str, told: bool, tmp_path: Path) -> None:
    client = Client()
    try:
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        parameters = {"power": power, "autostart": True, "diagnostics_period": 0.2}
        with running(MODULE, tmp_path / "node.log", parameters):

            def settled() -> dict[str, str] | None:
                values = values_of(diagnostics[-1]) if diagnostics else {}
                done = values.get("power_problem") != "no reading yet"
                return values if values.get("state") == "active" and done else None

            values = client.wait_for(settled)
        assert ("power_source" in values, "power_problem" in values) == (told, told)
    finally:
        client.close()

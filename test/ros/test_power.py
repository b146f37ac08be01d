# SPDX-License-Identifier: Apache-2.0
"""The parameter ``power`` of the running node."""

from __future__ import annotations

import pytest
from harness import Client, Start, values_of

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(("power", "shown"), [("auto", True), ("none", False)])
def test_power_is_in_diagnostics_unless_switched_off(
    client: Client, start: Start, power: str, shown: bool
) -> None:
    seen = start(power=power, diagnostics_period=0.2)

    def settled() -> dict[str, str] | None:
        values = values_of(seen.diagnostics[-1])
        done = values.get("power_problem") != "no reading yet"
        return values if values.get("state") == "active" and done else None

    values = client.wait_for(settled)
    assert ("power_source" in values, "power_problem" in values) == (shown, shown)

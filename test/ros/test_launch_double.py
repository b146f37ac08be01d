# SPDX-License-Identifier: Apache-2.0
"""The double of ``launch`` against the real packages, where they are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import ROOT
from launching import entities_of
from runtime_fixtures import DOUBLES

pytest.importorskip("launch_ros", reason="launch comes with ROS 2, not as a Python wheel")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOUBLES))
    return import_module("launch_api")


def test_every_parameter_of_the_double_is_one_of_the_real_thing(double: Any) -> None:
    for module, content in double.MODULES.items():
        for each in content:
            real = getattr(import_module(module), each.__name__)
            own = inspect.signature(each).parameters.values()
            accepted = parameters_of(real)
            missing = [
                parameter.name
                for parameter in own
                if parameter.name not in accepted and parameter.kind != parameter.VAR_KEYWORD
            ]
            # The double makes events itself: the real ones hold more, which nobody reads here.
            assert not missing, f"{module}.{each.__name__}: {missing}"


def parameters_of(kind: Any) -> set[str]:
    """Names of all parameters, also those that are passed on to a base class."""
    if not inspect.isclass(kind):
        return set(inspect.signature(kind).parameters)
    return {
        name
        for base in kind.__mro__
        if "__init__" in vars(base) and base is not object
        for name in inspect.signature(base.__init__).parameters
    }


def real_facts(node: Any, context: Any) -> dict[str, Any]:
    """What a real node's process would get, as ``double_facts`` has it."""
    perform = import_module("launch.utilities").perform_substitutions
    context.extend_locals({"ros_specific_arguments": {"name": "", "ns": "", "params": []}})
    node._perform_substitutions(context)
    words = [perform(context, part) for part in node.cmd]
    flags = [word for word in words[1:] if word != "--ros-args"]
    files = [flags[n + 1] for n, word in enumerate(flags) if word == "--params-file"]
    pairs = zip(flags, flags[1:], strict=False)
    remapped = [value.split(":=") for flag, value in pairs if flag == "-r" and value]
    return {
        "full_name": node.node_name,
        "first": flags[: flags.index("-r")] if "-r" in flags else flags,
        "parameters": [parameters_in(Path(file)) for file in files],
        "remappings": [tuple(pair) for pair in remapped],
        "environment": environment_of(node, context),
    }


def parameters_in(path: Path) -> dict[str, Any]:
    (content,) = yaml.safe_load(path.read_text()).values()
    return dict(content["ros__parameters"])


def environment_of(node: Any, context: Any) -> dict[str, str]:
    perform = import_module("launch.utilities").perform_substitutions
    pairs: list[Any] = node.process_description.additional_env or []
    return {perform(context, name): perform(context, value) for name, value in pairs}


def double_facts(node: Any) -> dict[str, Any]:
    return {
        "full_name": node.full_name,
        "first": node.ros_arguments,
        "parameters": node.parameters,
        "remappings": node.remappings,
        "environment": node.environment,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"namespace": "robot", "image_topic": "camera/image_raw", "log_level": "warn"},
        {"model": "1", "input_size": "352", "autostart": "false", "use_sim_time": "True"},
        {"cameras": "['front', 'yes']", "image_topic": "color", "namespace": "/a/b"},
        {"params_file": str(ROOT / "config" / "detector.yaml"), "input_size": "320"},
        {"dds_profile": "none", "respawn": "true"},
    ],
)
def test_a_node_of_the_double_gets_what_the_real_one_gets(
    double: Any, monkeypatch: pytest.MonkeyPatch, arguments: Mapping[str, str]
) -> None:
    (real,), context = entities_of("detector.launch.py", arguments)
    expected = real_facts(real, context)
    double.install(monkeypatch)
    (node,), _ = entities_of("detector.launch.py", arguments)
    assert double_facts(node) == expected


@pytest.mark.parametrize("argument", ["log_level", "namespace"])
def test_both_refuse_the_same(double: Any, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    given = {argument: "much too loud"}
    sentence = {"log_level": "Valid options are", "namespace": "Invalid namespace"}[argument]
    with pytest.raises(Exception, match=sentence):
        nodes, context = entities_of("detector.launch.py", given)
        real_facts(nodes[0], context)
    double.install(monkeypatch)
    with pytest.raises(Exception, match=sentence):
        entities_of("detector.launch.py", given)

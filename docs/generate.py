# SPDX-License-Identifier: Apache-2.0
"""Write the tables that follow from the code into the documents: ``make docs``."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from compact_yolo_ros.backends import BACKENDS
from compact_yolo_ros.machine.power.table import POWER_SOURCES
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import ModelFile, model_names, shipped_model
from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS, SPECS
from compact_yolo_ros.ros.detector.topics import INTERFACES, Output
from compact_yolo_ros.ros.launching.arguments import LAUNCH_ARGUMENTS, PARAMETERS
from compact_yolo_ros.ros.parameters import ParameterSpec
from compact_yolo_ros.ros.players.video_publisher import VIDEO_PUBLISHER_PARAMETERS
from compact_yolo_ros.ros.transports import DEPTH_TRANSPORTS, IMAGE_TRANSPORTS
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.markdown import markdown_table

ROOT = Path(__file__).resolve().parent.parent
DETECTOR_YAML = ROOT / "config" / "detector.yaml"
SROS2_POLICY = ROOT / "config" / "sros2_policy.xml"
FEW = 5
"""Class names that a table lists."""

CHANGES = {
    "any time": "any time",
    "unconfigured": "before configuring",
    "never": "at start only",
}
LIFECYCLE_SERVICES = (
    "change_state",
    "get_state",
    "get_available_states",
    "get_available_transitions",
    "get_transition_graph",
)
PARAMETER_SERVICES = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
    "get_type_description",
)
OWN_TOPICS = ("~/transition_event", "rosout", "parameter_events")
"""What rclpy publishes for every lifecycle node."""
HEARD_TOPICS = ("clock", "parameter_events")
"""What rclpy subscribes to where ``use_sim_time`` is true."""
POLICY = """<?xml version="1.0" encoding="UTF-8"?>
<!-- The least rights of the node /detector (docs/stack.md). Put in your camera's topic for image.
     Made from compact_yolo_ros/ros/detector/topics.py by `make docs`. -->
<policy version="0.2.0">
  <enclaves>
    <enclave path="/detector">
      <profiles>
        <profile ns="/" node="detector">
          <topics publish="ALLOW">
{publish}
          </topics>
          <topics subscribe="ALLOW">
{subscribe}
          </topics>
          <services reply="ALLOW">
{reply}
          </services>
        </profile>
      </profiles>
    </enclave>
  </enclaves>
</policy>
"""
LAUNCH_DEFAULTS = {"autostart": True}
"""What the launch file chooses otherwise than the node: its parameter file does so too."""


def main() -> None:
    """Rewrite the documents and the parameter file."""
    texts = {path: document(path) for path in DOCUMENTS} | {
        DETECTOR_YAML: detector_yaml(),
        SROS2_POLICY: sros2_policy(),
    }
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)


def document(path: Path) -> str:
    """Return the text of a document with its tables renewed.

    A table stands between two comments, which hold its name.

    Raises:
        ValueError: the comments of a table are missing, or there are several.
    """
    text = path.read_text()
    for name, write in DOCUMENTS[path].items():
        begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        table = f"{begin}\n{write()}\n{end}".replace("\\", r"\\")
        text, count = re.subn(pattern, table, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{path} must hold `{begin}` and `{end}` once")
    return text


def detector_yaml() -> str:
    """Return a parameter file with every parameter, its default and its description."""
    lines = [
        "# Every parameter of the detector with its default (autostart: that of the launch file).",
        "# Copy the file, keep the lines that you change, and give it to the launch file:",
        "# params_file:=/path/to/your.yaml",
        "# Made from compact_yolo_ros/ros/detector/parameter_table.py by `make docs`.",
        "/**:",
        "  ros__parameters:",
    ]
    for spec in DETECTOR_PARAMETERS:
        note = f"{spec.description} {_values(spec)}".strip()
        lines += textwrap.wrap(note, 100, initial_indent="    # ", subsequent_indent="    # ")
        default = LAUNCH_DEFAULTS.get(spec.name, spec.default)
        lines += [f"    {spec.name}: {json.dumps(default)}", ""]
    return "\n".join(lines[:-1]) + "\n"


def sros2_policy() -> str:
    """Return the least rights of the node: its topics and services, and those of rclpy."""
    published = [_policy_name(row.name) for row in INTERFACES if row.kind == "publisher"]
    heard = [_policy_name(row.name) for row in INTERFACES if row.kind == "subscription"]
    served = [_policy_name(row.name) for row in INTERFACES if row.kind == "service"]
    own = [f"~/{name}" for name in (*LIFECYCLE_SERVICES, *PARAMETER_SERVICES)]
    return POLICY.format(
        publish=_rights("topic", [*published, *OWN_TOPICS]),
        subscribe=_rights("topic", [*heard, *_other_forms(), *HEARD_TOPICS]),
        reply=_rights("service", [*served, *own]),
    )


def _other_forms() -> list[str]:
    """Topics of the images as other transports than raw bring them."""
    names = [f"image{transport.suffix}" for transport in IMAGE_TRANSPORTS.values()]
    names += [f"depth{transport.suffix}" for transport in DEPTH_TRANSPORTS.values()]
    return [name for name in names if "/" in name]


def _policy_name(name: str) -> str:
    return name.lstrip("/")


def _rights(kind: str, names: Iterable[str]) -> str:
    return "\n".join(f"            <{kind}>{name}</{kind}>" for name in names)


def models() -> str:
    """Table of the models that come with the package, from their cards."""
    head = "Model", "Classes", "Input", "Parameters", "GMAC", "File", "AP50", "Card"
    return _table(head, [_model_row(shipped_model(name)) for name in model_names()])


def _model_row(model: ModelFile) -> tuple[str, ...]:
    card = model.card
    return (
        f"`{card.name}`",
        _class_names(card),
        " / ".join(f"**{size}**" if size == str(card.default_size) else size for size in card.ap),
        f"{card.parameters / 1e6:.2f} M",
        _by_size(card, card.gmacs),
        f"{model.path.stat().st_size / 1e6:.1f} MB",
        _by_size(card, {size: values["AP50"] for size, values in card.ap.items()}),
        f"[{card.name}.md](../models/{card.name}.md)",
    )


def models_in_short() -> str:
    """Table of the models, with what somebody needs to choose one."""
    head = "`model`", "Finds", "Input", "AP50", "GMAC", "File"
    return _table(head, [_short_row(shipped_model(name)) for name in model_names()])


def _short_row(model: ModelFile) -> tuple[str, ...]:
    card, size = model.card, str(model.card.default_size)
    return (
        f"[`{card.name}`](models/{card.name}.md)",
        _class_names(card),
        size,
        f"{card.ap[size]['AP50']:.2f}",
        f"{card.gmacs[size]:.2f}",
        f"{model.path.stat().st_size / 1e6:.1f} MB",
    )


def accuracy() -> str:
    """Table of AP and AP50 of the models by input size, from their cards."""
    cards = [shipped_model(name).card for name in model_names()]
    sizes = sorted({size for card in cards for size in card.ap}, key=int)
    return _table(["weights", *sizes], [[f"`{card.name}`", *_aps(card, sizes)] for card in cards])


def _aps(card: ModelCard, sizes: Iterable[str]) -> Iterator[str]:
    for size in sizes:
        figures = card.ap.get(size)
        yield f"{100 * figures['AP']:.1f} / {100 * figures['AP50']:.1f}" if figures else "-"


def _class_names(card: ModelCard) -> str:
    """All names; where they are many, their number and the first ones."""
    names = ", ".join(card.classes[:FEW])
    return names if len(card.classes) <= FEW else f"{len(card.classes)} classes: {names}, ..."


def _by_size(card: ModelCard, values: Mapping[str, float]) -> str:
    return " / ".join(f"{values[size]:.2f}" for size in card.ap)


def weights() -> str:
    """What each model's card says about the licence of its weights."""
    names: dict[str, list[str]] = {}
    for card in (shipped_model(name).card for name in model_names()):
        names.setdefault(card.licence, []).append(f"`{card.name}`")
    return "\n".join(f"- {', '.join(same)}: {licence}" for licence, same in names.items())


def launch_arguments() -> str:
    """Table of the launch file's arguments."""
    rows = [
        (
            f"`{argument.name}`",
            f"`{argument.default}`" if argument.default else "",
            argument.description + _choices(argument.choices),
        )
        for argument in LAUNCH_ARGUMENTS
    ]
    return _table(("Argument", "Default", "Meaning"), rows)


def parameters_that_are_arguments() -> str:
    """Names of the node's parameters that the launch file takes as arguments."""
    names = [f"`{name}`" for name in PARAMETERS if name in SPECS]
    return f"Launch arguments too are {', '.join(names[:-1])} and {names[-1]}."


def topics() -> str:
    """Table of the topics and services of the node /detector."""
    rows = [
        (
            f"`/{row.name.replace('~', 'detector').lstrip('/')}`",
            f"`{row.type_name}`",
            row.kind + (", latched" if isinstance(row, Output) and row.latched else ""),
            row.description,
        )
        for row in INTERFACES
    ]
    return _table(("Name", "Type", "Kind", "What"), rows)


def parameters(specs: Iterable[ParameterSpec]) -> str:
    """Table of a node's parameters."""
    rows = [
        (
            f"`{spec.name}`",
            f"`{json.dumps(spec.default)}`",
            f"{spec.description} {_values(spec)}".strip(),
            CHANGES[spec.changes],
        )
        for spec in specs
    ]
    return _table(("Parameter", "Default", "Meaning", "Can change"), rows)


def power_sources() -> str:
    """Table of the sources that the power is read from."""
    rows = [(info.name, info.part.value, info.reads) for info in POWER_SOURCES]
    return _table(("Source", "Measures", "Reads"), rows)


def _values(spec: ParameterSpec) -> str:
    """What may be given, in a sentence; empty if anything of the type may."""
    if spec.low is not None:
        step = f", in steps of {spec.step}" if spec.step else ""
        return f"From {spec.low} to {spec.high}{step}."
    return _choices(spec.choices).strip()


def _choices(choices: tuple[str, ...]) -> str:
    return f" One of {', '.join(choices)}." if choices else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return markdown_table([*head], ([*row] for row in rows))


def backends() -> str:
    """Return the table of the runtimes."""
    return _table(
        ("`backend`", "Runs on", "Needs", "`auto` may choose it"),
        (
            (
                f"`{info.name}`",
                info.runs_on,
                ", ".join(library.name for library in info.libraries),
                "yes" if info.automatic else "if it is the fastest",
            )
            for info in BACKENDS.values()
        ),
    )


DOCUMENTS: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"models in short": models_in_short},
    ROOT / "docs" / "accuracy.md": {"accuracy": accuracy},
    ROOT / "docs" / "models.md": {"models": models, "weights": weights},
    ROOT / "docs" / "node.md": {
        "launch arguments": launch_arguments,
        "parameters that are launch arguments": parameters_that_are_arguments,
        "topics and services": topics,
        "detector parameters": lambda: parameters(DETECTOR_PARAMETERS),
        "video publisher parameters": lambda: parameters(VIDEO_PUBLISHER_PARAMETERS),
    },
    ROOT / "docs" / "power.md": {"power sources": power_sources},
    ROOT / "docs" / "runtimes.md": {"backends": backends},
}
"""The tables of each document, by name, and what writes them."""

if __name__ == "__main__":
    main()

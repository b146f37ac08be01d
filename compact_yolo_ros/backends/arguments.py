# SPDX-License-Identifier: Apache-2.0
"""``RunOptions`` on the command line: the same options, names and help for every command."""

from __future__ import annotations

from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Collection
from dataclasses import fields

from compact_yolo_ros.backends.options import DEFAULT_MODEL, MOST_THREADS, PRECISIONS, RunOptions
from compact_yolo_ros.backends.registry import AUTO, backend_names
from compact_yolo_ros.model.sizes import InputSize, OwnSize, Size, parse_input_size
from compact_yolo_ros.support.arguments import Options, whole_number, width_x_height

INPUT_SIZE_HELP = (
    "long side of an input that fits the camera, or WIDTHxHEIGHT, in pixels [the model's own]"
)
_BY_PROGRAM = ("in_flight", "sha256")
"""Options that programs choose, and that are no arguments."""
_FLAGS = {"input_sizes": "input-size", "image_sizes": "image-size"}


def input_size(text: str) -> InputSize:
    """Read ``320`` (long side) or ``320x224`` (width x height, pixels); for ``type=`` of argparse.

    Raises:
        ArgumentTypeError: the text has another form, or no network can be run at that size.
    """
    try:
        return parse_input_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def image_size(text: str) -> Size:
    """Read the size of a camera's images, ``1920x1080``; for ``type=`` of argparse.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    return Size(*width_x_height(text))


def cpu_threads(text: str) -> int:
    """Read a number of CPU threads, 0 for a choice; for ``type=`` of argparse.

    Raises:
        ArgumentTypeError: the text is no such number, or there are too many.
    """
    number = whole_number(0)(text)
    if number > MOST_THREADS:
        raise ArgumentTypeError(f"{number} threads are too many: give at most {MOST_THREADS}")
    return number


def add_run_arguments(parser: Options, *, leave_out: Collection[str] = ()) -> None:
    """Add an option for each field of ``RunOptions`` but those in ``leave_out``."""
    defaults = RunOptions()
    kinds = {
        "model": {"default": DEFAULT_MODEL, "help": "name, or path of an .onnx file"},
        "backend": {"default": AUTO, "choices": backend_names(), "help": "what runs the network"},
        "precision": {"default": AUTO, "choices": PRECISIONS, "help": "number format"},
        "input_sizes": {
            "type": input_size,
            "nargs": "+",
            "action": "extend",
            "default": [],
            "metavar": "SIZE",
            "help": INPUT_SIZE_HELP,
        },
        "image_sizes": {
            "type": image_size,
            "nargs": "+",
            "action": "extend",
            "default": [],
            "metavar": "WIDTHxHEIGHT",
            "help": "of the cameras' images, which inputs fit [not known: the inputs are squares]",
        },
        "batch": {"type": int, "default": defaults.batch, "help": "most images a run"},
        "threads": {"type": cpu_threads, "default": 0, "help": "CPU threads; 0 chooses"},
        "dla_core": {"type": int, "default": defaults.dla_core, "help": "-1 is the GPU"},
        "engine_cache": {"default": "", "help": "folder of TensorRT engines [the user's own]"},
        "spinning": {
            "action": "store_true",
            "help": "ONNX Runtime's threads wait in a loop instead of asleep",
        },
        "timing": {
            "action": BooleanOptionalAction,
            "default": defaults.timing,
            "help": "let auto choose what was timed to be the fastest on this machine",
        },
    }
    for name, kind in kinds.items():
        if name not in leave_out:
            parser.add_argument(_flag(name), dest=name, **kind)  # type: ignore[arg-type]


def run_options_of(namespace: Namespace) -> RunOptions:
    """The options that were given; what the parser does not have keeps its default.

    Raises:
        ValueError: a value is out of its range.
    """
    names = [field.name for field in fields(RunOptions)]
    given = {name: getattr(namespace, name) for name in names if hasattr(namespace, name)}
    for name in _FLAGS.keys() & given.keys():
        given[name] = tuple(given[name])
    return RunOptions(**given)


def to_arguments(options: RunOptions, *, leave_out: Collection[str] = ()) -> list[str]:
    """The command line of these options; what is at its default is left out.

    So is the size that the model was made for: only its card can say that it may be any size.
    """
    defaults = RunOptions()
    if all(isinstance(size, OwnSize) for size in options.input_sizes):
        options = options.change(input_sizes=())
    words: list[str] = []
    for field in fields(RunOptions):
        value = getattr(options, field.name)
        left_out = field.name in leave_out or field.name in _BY_PROGRAM
        if left_out or value == getattr(defaults, field.name):
            continue
        words.append(f"--no-{field.name}" if value is False else _flag(field.name))
        if field.name in _FLAGS:
            words += map(str, value)
        elif not isinstance(value, bool):
            words.append(str(value))
    return words


def _flag(name: str) -> str:
    """``input_sizes`` is given with ``--input-size``."""
    return "--" + _FLAGS.get(name, name.replace("_", "-"))

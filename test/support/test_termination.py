# SPDX-License-Identifier: Apache-2.0
"""Commands end as others do: after Ctrl-C, and where nobody reads what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ("training.train", "training.data.check", "compact_yolo_ros.apps.evaluate_bag.command")


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_starts_is_one_sentence(command: str, tmp_path: Path) -> None:
    """At the first import of a library, which takes seconds on a small machine."""
    library = "raise KeyboardInterrupt\n"  # as SIGINT does, which shells ignore behind an "&"
    for name in ("torch", "cv2", "numpy"):
        (tmp_path / f"{name}.py").write_text(library)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", command], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_a_program_that_imports_training_keeps_its_tracebacks() -> None:
    program = "import training, sys\nassert sys.excepthook is sys.__excepthook__"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("line", "unbuffered", "code"),
    [
        ("print('a')", "", 0),  # all was done when it turned out
        ("print('a')", "1", 141),
        ("say(open_console(), 'a')", "", 141),
    ],
)
def test_nothing_is_said_where_nobody_reads(line: str, unbuffered: str, code: int) -> None:
    program = (
        "from compact_yolo_ros.support.termination import end_quietly\n"
        "from compact_yolo_ros.support.terminal import open_console, say\n"
        f"end_quietly()\n{line}"
    )
    assert _with_closed_output(program, unbuffered) == (code, "")


def test_another_broken_pipe_is_a_fault() -> None:
    program = (
        "from compact_yolo_ros.support.termination import end_quietly\n"
        "end_quietly()\nraise BrokenPipeError"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr


def _with_closed_output(program: str, unbuffered: str) -> tuple[int, str]:
    """The exit code of a program whose output nobody reads, and its standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writer)
    return done.returncode, done.stderr

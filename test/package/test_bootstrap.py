# SPDX-License-Identifier: Apache-2.0
"""The bootstrap repeats no step, recovers, and says in one sentence what a machine lacks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "environment"))

import bootstrap  # noqa: E402
import build_interfaces  # noqa: E402
import provision  # noqa: E402
import shared_memory  # noqa: E402
import steps  # noqa: E402


def one_sentence(message: object) -> str:
    text = str(message).strip()
    assert text.count("\n") == 0, text
    assert text.endswith((".", ").")), text
    return text


def test_this_machine_fits() -> None:
    assert bootstrap.check_python() is None


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 14, 0)])
def test_an_unsupported_python_is_reported_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    text = one_sentence(bootstrap.check_python())
    assert "3.10 to 3.13" in text
    assert "make PYTHON=python3.1" in text


def test_another_architecture_is_referred_to_colcon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    text = one_sentence(bootstrap.check_python())
    assert "aarch64" in text
    assert "colcon" in text


@pytest.mark.parametrize("libc", [("", ""), ("glibc", "2.17")])
def test_an_old_or_other_c_library_is_reported(
    monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str]
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    assert "glibc 2.28" in one_sentence(bootstrap.check_python())


def test_missing_compiler_ends_the_bootstrap_before_any_download(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "environment", tmp_path / "environment")
    result = subprocess.run(
        [sys.executable, tmp_path / "environment" / "bootstrap.py", "demo"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "apt install g++" in one_sentence(result.stderr)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("variable", ["", " "])
def test_an_empty_name_of_a_compiler_is_none(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As CMake has it."""
    monkeypatch.setenv("CXX", variable)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(steps.SetupError, match=r"needs a C\+\+ compiler \(g\+\+\)"):
        build_interfaces.check_compiler()


def test_missing_headers_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # any program that exists
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(steps.SetupError) as caught:
        build_interfaces.check_compiler()
    minor = sys.version_info[1]
    assert f"apt install python3.{minor}-dev" in one_sentence(caught.value)


def test_a_missing_venv_module_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provision, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(provision, "STEPS", tmp_path / "steps.json")
    monkeypatch.setattr(provision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(steps.SetupError) as caught:
        provision._virtual_environment()
    assert "-venv`" in one_sentence(caught.value)


def test_a_failing_command_shows_the_end_of_its_output_and_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(steps, "BUILD", tmp_path)
    with pytest.raises(steps.SetupError, match=r"(?s)line 39\n\nCounting: failed.*counting\.log"):
        steps.run(
            "Counting, to forty",
            *(sys.executable, "-c", "for i in range(40): print('line', i)\nraise SystemExit(3)"),
        )
    assert (tmp_path / "logs" / "counting.log").read_text().startswith("line 0\n")


@pytest.mark.parametrize(
    ("printed", "cure"),
    [
        ("OSError: [Errno 28] No space left on device", "make room"),
        ("c++: fatal error: error writing to x.s: No space left on device", "make room"),
        (
            "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
            "network",
        ),
        (
            "ConnectTimeoutError(<HTTPSConnection>, 'Connection to pypi.org timed out.')",
            "https_proxy",
        ),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel failed'))", "https_proxy"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "PIP_CERT"),
    ],
)
def test_a_command_that_fails_for_a_known_reason_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str, cure: str
) -> None:
    monkeypatch.setattr(steps, "BUILD", tmp_path)
    program = (
        f"print({printed!r})\nfor i in range(40): print('ERROR: line', i)\nraise SystemExit(1)"
    )
    with pytest.raises(steps.SetupError) as caught:
        steps.run("Installing ROS 2", sys.executable, "-c", program)
    text = one_sentence(caught.value)
    assert cure in text and "installing-ros-2.log" in text


def free_bytes(count: int) -> Callable[[Path], SimpleNamespace]:
    return lambda folder: SimpleNamespace(free=count)


def test_a_full_disk_is_noticed_before_any_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provision, "STEPS", tmp_path / "steps.json")
    monkeypatch.setattr(shutil, "disk_usage", free_bytes(300_000_000))
    with pytest.raises(steps.SetupError) as caught:
        provision._check_room(provision.DEMO_BYTES, "runtime")
    text = one_sentence(caught.value)
    assert "needs 2.0 GB" in text and "0.3 GB are free" in text and "make room" in text


@pytest.mark.parametrize("variable", ["HOME", "ROS_HOME", "ROS_LOG_DIR"])
def test_a_log_folder_that_cannot_be_written_is_noticed_first(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("ROS_HOME", "ROS_LOG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/proc/nowhere")
    with pytest.raises(steps.SetupError) as caught:
        provision._check_log_folder()
    text = one_sentence(caught.value)
    assert "/proc/nowhere" in text and "set HOME or ROS_LOG_DIR" in text


def test_a_finished_environment_needs_no_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provision, "STEPS", tmp_path / "steps.json")
    monkeypatch.setattr(shutil, "disk_usage", free_bytes(0))
    provision._note({"runtime": "a"})
    provision._check_room(provision.DEMO_BYTES, "runtime")


def test_a_disk_that_fills_up_meanwhile_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", ".venv/steps.partial")

    monkeypatch.setattr(provision, "demo", full)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "demo"])
    assert bootstrap.main() == 1
    text = one_sentence(capsys.readouterr().err)
    assert "No space left on device" in text and "run make again" in text


@pytest.mark.parametrize("name", ["jörg", "my robots", "a;b", "日本"])
def test_messages_are_built_elsewhere_if_the_path_would_break_the_tools(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    checkout = tmp_path / name
    checkout.mkdir()
    with build_interfaces._workplace(checkout) as work:
        assert work.is_dir() and checkout not in work.parents
    assert not work.exists()
    with build_interfaces._workplace(tmp_path) as work:
        assert work.parent == tmp_path


def test_a_machine_without_a_plain_path_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = tmp_path / "jörg"
    checkout.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(checkout))
    with pytest.raises(steps.SetupError) as caught, build_interfaces._workplace(checkout):
        pass
    assert "set TMPDIR" in one_sentence(caught.value)


def test_a_step_runs_once_for_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provision, "STEPS", tmp_path / "steps.json")
    runs: list[str] = []
    for key in ("a", "a", "b", "b"):
        provision._step("step", key, lambda key=key: runs.append(key))
    assert runs == ["a", "b"]


def test_an_interrupted_step_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next run then creates the environment again."""
    monkeypatch.setattr(provision, "STEPS", tmp_path / "steps.json")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provision._step("runtime", "a", interrupted)
    assert json.loads(provision.STEPS.read_text()) == {provision.INTERRUPTED: "runtime"}


def test_changed_messages_are_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "vision_msgs"
    shutil.copytree(build_interfaces.SOURCE, copy)
    before = build_interfaces.wheel_path()
    monkeypatch.setattr(build_interfaces, "SOURCE", copy)
    assert build_interfaces.wheel_path() == before
    (copy / "msg" / "Point2D.msg").write_text("float32 x\nfloat32 y\n")
    assert build_interfaces.wheel_path() != before


def test_only_segments_without_an_owner_are_removed(tmp_path: Path) -> None:
    alive, dead = (f"fastdds_{digit * 16}" for digit in "ab")
    others = ["fastdds_port7411", "fastdds_port7411_el", "fastdds_notes_el"]
    for name in (alive, f"{alive}_el", dead, f"{dead}_el", *others):
        (tmp_path / name).touch()
    with (tmp_path / f"{alive}_el").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert shared_memory.remove_abandoned_segments(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == sorted([alive, f"{alive}_el", *others])


@pytest.mark.parametrize("name", ["runtime", "sample", "test", "build"])
def test_locks_hold_exact_versions_with_hashes_and_no_index(name: str) -> None:
    text = (ROOT / "environment" / "requirements" / f"{name}.txt").read_text()
    requirements = text.replace("\\\n", " ").splitlines()
    pinned = [line for line in requirements if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert "==" in line and "--hash=sha256:" in line, line
        assert "file:" not in line and "://" not in line, line


def test_the_demo_needs_no_torch() -> None:
    for name in ("runtime", "sample"):
        assert "torch" not in (ROOT / "environment" / "requirements" / f"{name}.txt").read_text()

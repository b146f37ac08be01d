# SPDX-License-Identifier: Apache-2.0
"""What ``run_node`` promises to the node it runs and to who started the process."""

from __future__ import annotations

import gc
import inspect
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit
from types import SimpleNamespace
from typing import Any

import pytest
from harness import PATIENCE, ROOT
from rclpy.impl.rcutils_logger import RcutilsLogger

from compact_yolo_ros.ros import run
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.process import GRACE
from compact_yolo_ros.ros.run import NODES
from compact_yolo_ros.ros.start_failure import start_failure

pytestmark = pytest.mark.ros

PROGRAM = """
import sys, time
from compact_yolo_ros.ros.process import run_node

def factory():
    from rclpy.node import Node

    class Subject(Node):
        def __init__(self):
            super().__init__("subject")
            self.create_timer(0.05, self.work)
{body}
    return Subject()

sys.exit(run_node(factory))
"""


class Program:
    """A process that runs a node with the given methods."""

    def __init__(self, body: str, *arguments: str, files: int = 0, **environment: str) -> None:
        code = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            preexec_fn=partial(setrlimit, RLIMIT_NOFILE, (files, files)) if files else None,
        )

    def wait_for_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Exit code, standard output and errors, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        try:
            output, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, output, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_close_comes_while_ros_is_still_there(number: int) -> None:
    program = Program("""
        def work(self):
            print("working", flush=True)
        def close(self):
            print("closing", self.context.ok(), self.get_clock().now().nanoseconds > 0)
    """)
    assert program.wait_for_line() == "working"
    code, output, errors = program.end(number)
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1] == "closing True True"


def test_names_of_files_that_are_not_utf8_are_logged() -> None:
    """Also that of the module which logs: the package may be below such a home folder."""
    program = Program("""
        def work(self):
            self.get_logger().warning("cannot read l\\udce4t")
            line = "node.get_logger().error('also here')"
            exec(compile(line, "/home/l\\udce4t/module.py", "exec"), {"node": self})
            sys.exit(3)
    """)
    code, _, errors = program.end()
    assert code == 3
    assert "cannot read l?t" in errors and "also here" in errors


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_of_one_image_is_kept_for_the_next() -> None:
    program = Program("""
        def work(self):
            from resource import RUSAGE_SELF, getrusage
            before = getrusage(RUSAGE_SELF).ru_minflt
            for _ in range(20):
                image, copy = bytearray(6_000_000), bytearray(6_000_000)
                image[::4096], copy[::4096] = [bytes(1465)] * 2
                del image, copy
            print((getrusage(RUSAGE_SELF).ru_minflt - before) // 20)
            sys.exit(0)
    """)
    code, output, _ = program.end()
    assert code == 0
    assert int(output) < 400  # of 2,930 pages


def test_an_idle_node_is_woken() -> None:
    program = Program("""
        def __init__(self):
            Node.__init__(self, "subject")
            print("ready")
        def close(self):
            print("closed")
    """)
    assert program.wait_for_line() == "ready"
    time.sleep(0.5)  # most likely it waits for work then; if not yet, the end is the same
    assert program.end(signal.SIGTERM) == (0, "closed\n", "")


@pytest.mark.parametrize("place", ["__init__", "work", "close"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_hangs_is_ended(place: str, number: int) -> None:
    program = Program(f"""
        def work(self):
            print("working", flush=True)
        def {place}(self):
            print("hanging", flush=True)
            time.sleep(600)
    """)
    assert program.wait_for_line() == ("working" if place == "close" else "hanging")
    code, _, errors = program.end(number)
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_may_lose_something_has_the_time_it_asks_for(number: int) -> None:
    program = Program(f"""
        close_within = {10 * GRACE}
        def work(self):
            print("working", flush=True)
        def close(self):
            time.sleep({1.5 * GRACE})
            print("written")
    """)
    assert program.wait_for_line() == "working"
    code, output, errors = program.end(number)
    assert (code, output.splitlines()[-1], errors) == (0, "written", "")


@pytest.mark.parametrize("place", ["work", "close"])
def test_what_is_lost_at_the_end_is_said(place: str) -> None:
    program = Program(f"""
        close_within = {1.5 * GRACE}
        def work(self):
            print("working", flush=True)
        def close(self):
            pass
        def {place}(self):
            print("hanging", flush=True)
            time.sleep(600)
    """)
    assert program.wait_for_line() == ("working" if place == "close" else "hanging")
    code, _, errors = program.end(signal.SIGINT)
    assert code == 1
    assert errors.splitlines() == [
        f"compact_yolo_ros: the node had not closed after {1.5 * GRACE:g} s: the last of its data"
        " is lost"
    ]


def test_a_node_that_has_closed_gets_no_more_than_the_usual_time() -> None:
    program = Program(f"""
        close_within = {10 * PATIENCE}
        def work(self):
            print("working", flush=True)
        def close(self):
            pass
        def destroy_node(self):
            time.sleep({10 * PATIENCE})
    """)
    assert program.wait_for_line() == "working"
    code, _, errors = program.end(signal.SIGINT)
    assert (code, errors) == (0, "")


def test_a_node_ends_the_process_with_its_own_code() -> None:
    program = Program("""
        def work(self):
            raise SystemExit(3)
        def close(self):
            print("closed")
    """)
    assert program.end() == (3, "closed\n", "")


def test_a_node_that_cannot_close_ends_the_process_with_its_own_code() -> None:
    program = Program("""
        def work(self):
            raise SystemExit(0)
        def close(self):
            raise SystemExit(3)
        def destroy_node(self):
            print("destroyed")
            super().destroy_node()
    """)
    assert program.end() == (3, "destroyed\n", "")


BUG, OWN_CODE = "ValueError('a bug')", "SystemExit(3)"


@pytest.mark.parametrize(("error", "code"), [(BUG, 1), (OWN_CODE, 3)])
@pytest.mark.parametrize(("place", "then"), [("work", "close"), ("close", "destroy_node")])
def test_what_went_wrong_is_said_and_is_the_code_though_the_node_hangs_then(
    place: str, then: str, error: str, code: int
) -> None:
    program = Program(f"""
        def work(self):
            raise SystemExit(0)
        def {place}(self):
            raise {error}
        def {then}(self):
            print("hanging", flush=True)
            time.sleep(600)
    """)
    assert program.wait_for_line() == "hanging"
    ended, _, errors = program.end(signal.SIGTERM)
    assert ended == code
    assert ("Traceback" in errors and "a bug" in errors) == (error == BUG)


def test_a_recording_that_cannot_be_closed_is_no_success_though_the_node_hangs_then() -> None:
    program = Program(f"""
        close_within = {1.5 * GRACE}
        def work(self):
            print("working", flush=True)
        def close(self):
            raise SystemExit(1)
        def destroy_node(self):
            time.sleep(600)
    """)
    assert program.wait_for_line() == "working"
    code, _, errors = program.end(signal.SIGINT)
    assert (code, errors) == (1, "")


BREAK_STANDARD_ERROR = """
            import os
            read_end, write_end = os.pipe()
            os.close(read_end)
            os.dup2(write_end, 2)"""
"""What started the node, and read what it said, has ended."""


def test_a_node_that_fails_is_closed_though_nobody_reads_what_went_wrong() -> None:
    program = Program(f"""
        def work(self):{BREAK_STANDARD_ERROR}
            raise ValueError("a bug")
        def close(self):
            print("closed")
    """)
    assert program.end() == (1, "closed\n", "")


def test_a_node_that_hangs_is_ended_though_nobody_reads_what_is_lost() -> None:
    program = Program(f"""
        close_within = {1.5 * GRACE}
        def work(self):{BREAK_STANDARD_ERROR}
            print("hanging", flush=True)
            time.sleep(600)
    """)
    assert program.wait_for_line() == "hanging"
    assert program.end(signal.SIGINT)[0] == 1


def test_shutting_ros_down_ends_the_process() -> None:
    program = Program("""
        def work(self):
            import rclpy
            rclpy.shutdown()
    """)
    code, _, errors = program.end()
    assert (code, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the model is missing: give another"),
        (["--ros-args", "-p", "size:=big"], "size"),
        (["--ros-args", "--params-file", "/missing.yaml"], "/missing.yaml"),
        (["--ros-args", "--unheard-of"], "--unheard-of"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(arguments: list[str], expected: str) -> None:
    program = Program(
        """
        def __init__(self):
            super().__init__("subject")
            self.declare_parameter("size", 1)
            raise ValueError("the model is missing: give another")
        """,
        *arguments,
    )
    code, output, errors = program.end()
    assert (code, output) == (1, "")
    lines = [line for line in errors.splitlines() if "compact_yolo_ros" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in errors


NO_SECURITY = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}


@pytest.mark.parametrize(
    ("surroundings", "cause", "remedy"),
    [
        ({"files": 5}, "too many open files", "raise the limit"),
        ({"files": 7}, "too many open files", "raise the limit"),
        ({"files": 12}, "too many open files", "raise the limit"),
        ({"HOME": "/proc/nobody", "ROS_LOG_DIR": ""}, "log directory", "set HOME or ROS_LOG_DIR"),
        ({"ROS_LOG_DIR": "/proc/nobody"}, "log directory", "set HOME or ROS_LOG_DIR"),
        (NO_SECURITY, "DDS security is on", "unset ROS_SECURITY_ENABLE"),
        ({**NO_SECURITY, "ROS_SECURITY_KEYSTORE": "HERE"}, "DDS security is on", "ROS_DOMAIN_ID"),
        ({"ROS_DOMAIN_ID": "one"}, "ROS_DOMAIN_ID is not an integral number", ""),
    ],
)
def test_surroundings_that_keep_ros_from_starting_are_one_sentence(
    tmp_path: Path, surroundings: dict[str, Any], cause: str, remedy: str
) -> None:
    (tmp_path / "enclaves").mkdir()
    given = {k: str(tmp_path) if v == "HERE" else v for k, v in surroundings.items()}
    program = Program("def close(self): pass", **given)
    code, output, errors = program.end()
    assert (code, output) == (1, "")
    lines = [line for line in errors.splitlines() if "ROS cannot start: " in line]
    assert len(lines) == 1, errors
    assert cause in lines[0] and remedy in lines[0]
    assert "Traceback" not in errors
    assert ".cpp:" not in lines[0] and ".c:" not in lines[0]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ImportError("libcrypto.so: failed to map segment from shared object"),
            "ROS cannot start: libcrypto.so: failed to map segment from shared object: give the "
            "process more memory (ulimit -v)",
        ),
        (
            RuntimeError("Resource temporarily unavailable"),
            "ROS cannot start: Resource temporarily unavailable: give the process more threads and "
            "memory (ulimit -u, ulimit -v)",
        ),
        (
            RuntimeError(
                "error creating node: no type support, at /a/b.hpp:114\nToo many open files"
            ),
            "ROS cannot start: too many open files: raise the limit, for example with ulimit -n "
            "1024",
        ),
        (MemoryError(), "ROS cannot start: MemoryError"),
    ],
)
def test_a_limit_of_the_machine_is_named_with_its_remedy(error: Exception, sentence: str) -> None:
    assert str(start_failure(error, {})) == sentence


def test_a_bug_in_the_making_of_a_node_is_not_hidden() -> None:
    program = Program("""
        def __init__(self):
            super().__init__("subject")
            self.nothing.at_all
    """)
    code, _, errors = program.end()
    assert code == 1
    assert "Traceback" in errors and "nothing" in errors


def test_a_time_that_rclpy_cannot_read_is_outlived_and_logged_once() -> None:
    program = Program(
        """
        def __init__(self):
            from rclpy.clock import Clock, ClockType
            from rosgraph_msgs.msg import Clock as ClockMessage
            super().__init__("subject")
            self.message = ClockMessage()
            self.sender = self.create_publisher(ClockMessage, "/clock", 1)
            self.create_timer(0.02, self.work, clock=Clock(clock_type=ClockType.STEADY_TIME))
            self.count = 0
        def work(self):
            self.count += 1
            self.message.clock.sec = -self.count % 3 - 1  # -1 again and again, then 0 and 1
            self.sender.publish(self.message)
            if self.count > 20 and self.get_clock().now().nanoseconds == 10**9:
                print("goes on", flush=True)
                raise SystemExit(0)
        """,
        *("--ros-args", "-p", "use_sim_time:=true"),
    )
    code, output, errors = program.end()
    assert (code, output) == (0, "goes on\n"), errors
    assert errors.count("a message cannot be read (Seconds value must not be negative)") == 1
    assert "Traceback" not in errors


def test_a_bug_is_not_hidden() -> None:
    program = Program("""
        def work(self):
            raise ValueError("a bug")
        def close(self):
            print("closed")
    """)
    code, output, errors = program.end()
    assert (code, output) == (1, "closed\n")
    assert "Traceback" in errors
    assert "a bug" in errors


def test_nothing_slow_is_loaded_before_signals_are_handled() -> None:
    code = "import sys, compact_yolo_ros.ros.run; print(*sys.modules)"
    loaded = python("-c", code).stdout.split()
    assert not {"rclpy", "numpy", "cv2", "onnxruntime"} & set(loaded)


def test_an_unknown_node_is_one_sentence() -> None:
    result = python("-m", "compact_yolo_ros.ros.run", "camera_node")
    assert result.returncode == 2
    assert result.stderr.startswith("there is no node 'camera_node': give one of bag_player_node, ")


@pytest.mark.parametrize("name", NODES)
def test_every_node_has_an_executable_of_its_name(name: str) -> None:
    module, factory = NODES[name].split(":")
    assert callable(getattr(import_module(module), factory))
    assert getattr(run, name).args == (name,)
    assert f'"{name}": "compact_yolo_ros.ros.run:{name}"' in (ROOT / "setup.py").read_text()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


NEEDED_BY_NOBODY = (
    "lark",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "compact_yolo_ros.backends.tensorrt.run",
    "compact_yolo_ros.machine.power.table",
    "statistics",
    "subprocess",
)
NEEDED_BY_NO_OPENING = (
    "cv2",
    "sensor_msgs.msg",
    "vision_msgs.msg",
    "compact_yolo_ros.ros.detector.session",
    "compact_yolo_ros.ros.diagnostics.publisher",
)


def test_a_start_loads_no_library_before_it_is_needed() -> None:
    """The model decides on a runtime, and power is found out by a thread.

    What the opening of a network does without comes after it has begun.
    Nor do NumPy and OpenCV start threads: those of OpenBLAS would turn idly for a while, on
    the cores that the start needs.
    """
    code = f"""
        import os, sys
        from compact_yolo_ros.ros.process import run_node

        def factory():
            before = len(os.listdir("/proc/self/task"))
            import compact_yolo_ros.ros.detector.node
            early = [name for name in {NEEDED_BY_NO_OPENING} if name in sys.modules]
            import cv2, numpy
            more = len(os.listdir("/proc/self/task")) - before
            import compact_yolo_ros.ros.detector.activation
            loaded = [name for name in {NEEDED_BY_NOBODY} if sys.modules.get(name)]
            print(early, loaded, more)
            raise SystemExit

        sys.exit(run_node(factory))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "[] [] 0\n"


def test_the_first_line_of_a_log_is_not_looked_for_in_all_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: dict[str, str] = {}
    monkeypatch.setattr(inspect, "modulesbyfile", {})
    monkeypatch.setattr(inspect, "_filesbymodname", searched)
    run._tell_files_of_logs()
    for code in (RcutilsLogger.log.__code__, DetectorNode.start.__code__):
        found = inspect.getmodule(code, inspect.getsourcefile(code))
        assert found and found.__file__ == code.co_filename
    assert not searched
    assert inspect.getmodule(inspect.getmodule.__code__) is inspect and searched  # the slow way


def test_a_start_leaves_neither_garbage_to_search_nor_memory_that_nobody_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(run, "import_module", lambda name: SimpleNamespace(make=make))

    def make() -> str:
        seen.append(gc.isenabled())
        return "node"

    given_back: list[bool] = []
    monkeypatch.setattr(run, "give_back_freed_memory", lambda: given_back.append(True))
    before = gc.get_freeze_count()
    try:
        assert run._create("module:make") == "node"
        assert seen == [False]
        assert gc.isenabled() and gc.get_freeze_count() > before
        assert given_back
    finally:
        gc.unfreeze()

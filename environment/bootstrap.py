# SPDX-License-Identifier: Apache-2.0
"""Prepares the virtual environment of `make demo` and `make test`; run it through make.

This file runs on any Python 3 (no annotations, late imports), so that an old one gets a sentence
instead of a traceback.
"""

import platform
import shutil
import sys

OLDEST, NEWEST = (3, 10), (3, 13)
ELSEWHERE = "install ROS 2 itself and build this package with colcon (see README.md)."


def check_python():
    """Return a sentence about what is wrong with this Python or platform, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"This is {platform.machine()} {sys.platform}, and ROS 2 comes as Python wheels "
            f"for x86-64 Linux only: {ELSEWHERE}"
        )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < (2, 28):
        return (
            f"This system has {libc or 'no glibc'} {version}, and the ROS 2 wheels need "
            f"glibc 2.28 or newer: use a newer distribution, or {ELSEWHERE}"
        )
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fitting = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
        found = next(filter(shutil.which, fitting), None)
        return (
            f"{sys.executable} is Python {sys.version.split()[0]}, "
            "and the ROS 2 wheels need 3.10 to 3.13: "
            + (
                f"run `make PYTHON={found} ...`."
                if found
                else "install one and run `make PYTHON=python3.12 ...`."
            )
        )
    return None


def main():
    """Run the verb given on the command line; return the exit code."""
    problem = check_python()
    if problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    import provision  # noqa: PLC0415 - its syntax is too new for the check above
    from steps import SetupError  # noqa: PLC0415

    verbs = {"demo": provision.demo, "test": provision.test, "lock": provision.lock}
    try:
        verbs[sys.argv[1]]()
    except SetupError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run starts this step again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Prepare the virtual environment of `make demo` and `make test`; run it through make.

This file runs on any Python 3 (no annotations, late imports), so that an old one reports what is
wrong instead of a traceback.
"""

import platform
import shutil
import sys

OLDEST, NEWEST = (3, 10), (3, 13)
ELSEWHERE = "install ROS 2 itself and build this package with colcon (see README.md)."


def check_python():
    """Return what is wrong with this Python or platform as one sentence, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            "The Python wheels of ROS 2 need x86-64 Linux, and this is "
            f"{platform.machine()} {sys.platform}: {ELSEWHERE}"
        )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < (2, 28):
        return (
            "The Python wheels of ROS 2 need glibc 2.28 or newer, and this system has "
            f"{libc or 'no glibc'} {version}".rstrip()
            + f": use a newer distribution, or {ELSEWHERE}"
        )
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fitting = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
        found = next(filter(shutil.which, fitting), None)
        return (
            "The Python wheels of ROS 2 need Python 3.10 to 3.13, "
            f"and {sys.executable} is {sys.version.split()[0]}: "
            + (
                f"run `make PYTHON={found} ...`."
                if found
                else "install one and run `make PYTHON=python3.12 ...`."
            )
        )
    return None


def main():
    """Run the step named on the command line and return the exit code."""
    problem = check_python()
    if problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    import provision  # noqa: PLC0415 - its syntax is too new for an old Python
    from steps import SetupError  # noqa: PLC0415

    verbs = {
        "demo": provision.demo,
        "test": provision.test,
        "mutants": provision.mutants,
        "docs": provision.docs,
        "lock": provision.lock,
    }
    try:
        verbs[sys.argv[1]]()
    except SetupError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except OSError as problem:  # a full disk, a folder that cannot be written
        print(
            f"\nThe environment cannot be written: {problem}; mend it and run make again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run repeats this step.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

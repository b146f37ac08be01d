# SPDX-License-Identifier: Apache-2.0
"""Say where the tests are thin: break the code in sampled places and see whether a test fails.

    python test/mutants.py --count 40 --seed 0 compact_yolo_ros/detection training/losses

Every mutant is one change that Cosmic Ray makes (another operator, number, branch or exception) in
a copy of the repository, so the checkout stays as it is. The tests of the mutant's folder run until
one fails; those that name its module come first. What no test notices is shown as a diff. Some
mutants do not change what the code does: judge each by hand.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec, TestOutcome
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "compact_yolo_ros"
QUICK_FOLDERS = ("support", "pixels", "model", "detection", "labels", "evaluation", "recordings")
WITHOUT_EFFECT = ("BitOr", "RemoveDecorator")
"""Parts of operators' names: `|` is nearly always in an annotation, which nothing evaluates."""


def main() -> int:
    """Run the mutants, print what survived, and return 1 if the tests fail without a mutant."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy_tracked_files(Path(folder))
        os.chdir(folder)
        os.environ["PYTHONPATH"] = folder
        mutants = sample(options.modules, options.count, options.seed)
        unbroken = {tests for tests in map(tests_of, mutants) if not passes(tests)}
        if unbroken:
            print(f"these tests fail without a mutant: {', '.join(sorted(unbroken))}")
            return 1
        report(run(mutants, options.seconds))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    folders = [f"{PACKAGE}/{folder}" for folder in QUICK_FOLDERS]
    parser.add_argument("modules", nargs="*", default=folders, help="files or folders to break")
    parser.add_argument("--count", type=int, default=40, help="number of mutants [40]")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other mutants [0]")
    parser.add_argument(
        "--seconds",
        type=float,
        default=300,
        help="time of a mutant's tests; a hang is noticed [300]",
    )
    return parser.parse_args()


def copy_tracked_files(folder: Path) -> None:
    """Copy what git knows, changed or new files included."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def sample(modules: list[str], count: int, seed: int) -> list[MutationSpec]:
    """Mutants of the modules, drawn at random."""
    files = sorted({path for module in modules for path in python_files(Path(module))})
    known = [item.mutations[0] for item in _all_work_items(files, {})]
    useful = [m for m in known if not any(part in m.operator_name for part in WITHOUT_EFFECT)]
    print(f"{len(useful)} mutants of {len(files)} modules", flush=True)
    return random.Random(seed).sample(useful, min(count, len(useful)))


def python_files(path: Path) -> Iterator[Path]:
    """The modules of a file or folder."""
    return path.rglob("*.py") if path.is_dir() else iter([path])


def tests_of(mutant: MutationSpec) -> str:
    """The test files of the mutant's folder, those that name its module first."""
    module = Path(mutant.module_path)
    folder = module.parts[1] if module.parts[0] == PACKAGE else module.parts[0]
    dotted = ".".join(module.with_suffix("").parts)
    files = sorted(Path("test", folder).rglob("test_*.py"))
    files.sort(key=lambda file: dotted not in file.read_text())
    return shlex.join(map(str, files))


def command(tests: str) -> str:
    """What runs test files until one fails."""
    return f"{shlex.quote(sys.executable)} -m pytest -x -q -p no:cacheprovider {tests}"


def passes(tests: str) -> bool:
    """Whether the tests pass as the code is."""
    return subprocess.run(shlex.split(command(tests)), stdout=subprocess.DEVNULL).returncode == 0


def run(mutants: list[MutationSpec], seconds: float) -> Iterator[tuple[MutationSpec, str | None]]:
    """Each mutant, with its diff if it survived."""
    for number, mutant in enumerate(mutants, 1):
        result = mutate_and_test([mutant], command(tests_of(mutant)), seconds)
        survived = result.test_outcome == TestOutcome.SURVIVED
        where = f"{mutant.module_path}:{mutant.start_pos[0]} {mutant.operator_name}"
        print(f"{number}/{len(mutants)} {'SURVIVED' if survived else 'killed'} {where}", flush=True)
        yield mutant, result.diff if survived else None


def report(results: Iterator[tuple[MutationSpec, str | None]]) -> None:
    """Print a table of the folders, after the diffs of what survived."""
    console = Console()
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    diffs = []
    for mutant, diff in results:
        folder = str(Path(mutant.module_path).parent)
        tried[folder] += 1
        if diff is not None:
            survived[folder] += 1
            diffs.append(diff)
    for diff in diffs:
        console.print(Syntax(diff, "diff", background_color="default"))
    table = Table("folder", "mutants", "killed", "%")
    for folder, count in sorted(tried.items()):
        killed = count - survived[folder]
        table.add_row(folder, str(count), str(killed), f"{100 * killed / count:.0f}")
    killed = tried.total() - survived.total()
    table.add_row("all", str(tried.total()), str(killed), f"{100 * killed / tried.total():.0f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())

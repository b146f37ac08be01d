# SPDX-License-Identifier: Apache-2.0
"""Running a job on several machines through Dask (``dask.distributed``, optional).

The parts are those of a run on one machine, and each returns as the log that one machine would have
written, so everything after that is the same. The machines read recording and model from the same
paths, for example of a shared file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.detection_run import Interrupted, run_part
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameLog
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts
from compact_yolo_ros.apps.evaluate_bag.results_folder import (
    claim,
    continued,
    log_path,
    model_sha256,
)
from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.error_text import one_line
from compact_yolo_ros.support.files import in_home, replacing
from compact_yolo_ros.support.pip import pip_line

LOCAL = "local"
"""Stands for the address of a cluster on this machine, which is started and ended here."""
CONNECTING = 20.0
"""Most seconds until the scheduler can be reached and has a worker."""


def run_on_cluster(
    job: Job,
    bag: Bag,
    folder: Path,
    address: str,
    *,
    workers: int = 2,
    restart: bool = False,
    progress: Callable[[int], object] = lambda frames: None,
) -> None:
    """Run the whole job, or what an earlier call left to do; compare ``run``.

    Args:
        job: what to do.
        bag: its recording.
        folder: where the logs go, on this machine.
        address: of a Dask scheduler, as ``tcp://host:8786``, or ``LOCAL``.
        workers: processes of a ``LOCAL`` cluster.
        restart: forget what an earlier call did.
        progress: called now and then with the number of frames that are done.

    Raises:
        Interrupted: by SIGINT.
        BagError: Dask is missing or cannot be reached, a worker sees other files, or as ``run``.
        ModelError, BackendError: the model cannot be opened or run.
    """
    spans = parts(job, bag)
    job = (job if restart else continued(job, bag, folder)).settled(workers)
    claim(job, bag, folder, restart)
    counts = {number: _count(log_path(folder, number)) for number in range(len(spans))}
    done = sum(count for count in counts.values() if count is not None)
    progress(done)
    todo = [number for number, count in counts.items() if count is None]
    if not todo:
        return
    with _client(address, workers) as client:
        from distributed import as_completed

        sent = _anywhere(job, here=address == LOCAL)
        expected = _fingerprint(job, bag)
        futures = {
            client.submit(run_elsewhere, sent, number, expected, pure=False): number
            for number in todo
        }
        try:
            for future in as_completed(list(futures)):
                content, frames = future.result()
                with replacing(log_path(folder, futures[future])) as path:
                    path.write_bytes(content)
                done += frames
                progress(done)
        except KeyboardInterrupt:
            raise Interrupted from None
        except (BagError, ModelError, BackendError):
            raise
        except OSError as error:
            raise BagError(f"the cluster or the disk failed: {error}") from None
        except Exception as error:  # Dask has many of its own, for example of missing packages
            why = one_line(error).partition(". ")[0]
            raise BagError(
                f"the cluster failed: {type(error).__name__}: {why}; scheduler and workers need "
                "this package and distributed in the same versions as here"
            ) from None
        finally:
            client.cancel(list(futures))


def run_elsewhere(job: Job, part: int, expected: dict[str, Any]) -> tuple[bytes, int]:
    """What a worker does: run one part and return the content of its log, and its frames.

    Raises:
        BagError: recording or model are other files here than where the job comes from.
    """
    bag = Bag(job.bags)
    found = _fingerprint(job, bag)
    for what, value in expected.items():
        if found[what] != value:
            raise BagError(f"a worker of the cluster sees another {what}: give it the same files")
    with TemporaryDirectory(prefix="bag_") as folder:
        run_part(job, Path(folder), part, bag)
        path = log_path(Path(folder), part)
        return path.read_bytes(), _count(path) or 0


def _anywhere(job: Job, here: bool) -> Job:
    """The job with options that do not depend on the folder a process was started in.

    Other machines than this one choose the threads, unless they were given: these change the speed
    only.
    """
    options = job.options
    if options.model.endswith(".onnx"):
        options = options.change(model=_absolute(options.model))
    if options.engine_cache:
        options = options.change(engine_cache=_absolute(options.engine_cache))
    runtime = job.runtime
    if runtime is not None and not here:
        runtime = replace(runtime, threads=options.threads)
    return replace(job, options=options, runtime=runtime)


def _absolute(path: str) -> str:
    return str(in_home(path).absolute())


def _fingerprint(job: Job, bag: Bag) -> dict[str, Any]:
    """What must be the same on all machines; folders and times of files may differ."""
    files = sorted((path.name, path.stat().st_size) for path in bag.files)
    return {"recording": files, "model": model_sha256(job.options.model)}


def _count(path: Path) -> int | None:
    """Frames of a complete log; None if it is not complete."""
    if not path.exists():
        return None
    log = FrameLog(path)
    log.close()
    return log.count if log.complete else None


@contextmanager
def _client(address: str, workers: int) -> Iterator[Any]:
    """A connection to the scheduler."""
    if find_spec("distributed") is None:
        raise BagError(f"a cluster needs Dask: {pip_line('distributed')}")
    from distributed import Client, LocalCluster

    if address == LOCAL:
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=CONNECTING)
    except (OSError, ValueError) as error:
        raise BagError(f"there is no Dask scheduler at {address}: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECTING)
        except TimeoutError:
            raise BagError(
                f"the scheduler at {address} has no workers: start `dask worker {address}`"
            ) from None
        yield client

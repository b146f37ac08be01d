# SPDX-License-Identifier: Apache-2.0
"""TensorRT 8.5 to 11 on an NVIDIA GPU (or a Jetson's DLA), through pycuda.

TensorRT 8.5 has run on a GPU (docs/gpu.md). The rest is tested against a double of TensorRT's and
pycuda's interfaces that enforces their documented rules, and whose names are checked against
NVIDIA's own Python bindings.

Precision lives in the graph: FP32, FP16, or INT8 with Q/DQ nodes. TensorRT 10 and 11 build it
strongly typed; TensorRT 8 needs builder flags to permit what the graph says. What the engine
really computes in is read back from it and reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from compact_yolo_ros.backends.backend import (
    BackendError,
    BackendLost,
    Candidates,
    MissingEngine,
    Opened,
)
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, EngineKey, engine_key
from compact_yolo_ros.backends.tensorrt.check import disagreement
from compact_yolo_ros.backends.tensorrt.cuda import Gpu, gpu
from compact_yolo_ros.backends.tensorrt.cuda_graph import DriverLibrary
from compact_yolo_ros.backends.tensorrt.engine import Engine
from compact_yolo_ros.backends.tensorrt.library import cuda_errors, library
from compact_yolo_ros.backends.tensorrt.network import PARTS, Lane, Network
from compact_yolo_ros.backends.tensorrt.on_cpu import NetworkOnCpu
from compact_yolo_ros.backends.tensorrt.plan import BuildProgress, build_plan
from compact_yolo_ros.backends.warm_up import warm_up
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions


class WrongEngine(BackendError):
    """TensorRT built an engine that answers otherwise than its model."""


def open_tensorrt(
    model: ModelFile,
    options: RunOptions,
    build: bool = True,
    progress: BuildProgress | None = None,
) -> Opened | MissingEngine:
    """Open an engine for each input size, from the cache or built now.

    Args:
        model: the file.
        options: resolved.
        build: build what is missing, which takes minutes.
        progress: is kept up to date meanwhile.

    Returns:
        The backend, which runs sizes with a wrong engine on the CPU if others have a right one; or
        which engine is missing, if ``build`` is false.

    Raises:
        ModelError: the file cannot be read, or is overwritten while its engine is built.
        BackendError: a library is missing, TensorRT refuses the model, or all engines are wrong.
    """
    trt = library()
    device = gpu()
    with cuda_errors(device):
        return _open(model, options, trt, device, build, progress or BuildProgress())


def _open(
    model: ModelFile,
    options: RunOptions,
    trt: Any,
    device: Gpu,
    build: bool,
    progress: BuildProgress,
) -> Opened | MissingEngine:
    """See ``open_tensorrt``. What it leaves behind is freed while the context is current."""
    engines: dict[Size, Engine] = {}
    wrong: dict[Size, WrongEngine] = {}
    problems: list[str] = []
    missing = f"there is no engine yet for {model.path.name} on {device.name} at"
    cache = EngineCache(options.engine_cache)
    for size in options.sizes:
        alone = options.change(input_sizes=(size,))
        key = engine_key(model, alone, trt, device)
        engine = _kept_engine(cache, key, trt)
        if engine is None:
            try:
                _require_not_wrong(cache, key)
                if not build:
                    return MissingEngine(f"{missing} {size}")
                plan = _checked_plan(model, alone, trt, device, cache, key, progress)
            except WrongEngine as error:
                wrong[size] = error.with_traceback(None)  # which would hold that engine
                continue
            problems.append(_keep(cache, key, plan))
            engine = Engine(trt, plan, key.dla_core)
        engines[size] = engine
    if engines:
        backend = TensorRTBackend(model, options, device, engines)
        warnings = filter(None, (_on_cpu(wrong), backend.precision_warning, *problems))
        return Opened(backend, warning=next(warnings, ""))
    if not build:
        return MissingEngine(f"{missing} {options.sizes[0]}")
    raise wrong[options.sizes[0]]


def _on_cpu(wrong: Mapping[Size, WrongEngine]) -> str:
    """Which sizes run on the CPU, and why; empty if none does."""
    if not wrong:
        return ""
    sizes = " and ".join(map(str, wrong))
    return f"running on the CPU at {sizes}: {next(iter(wrong.values()))}"


def _no_way_down(sizes: Iterable[Size], engines: Collection[Size]) -> dict[Size, float]:
    """What ``Backend.sizes`` says of those on the CPU that are smaller than one of the engines."""
    longest = max(map(max, engines))
    return {size: inf for size in sizes if size not in engines and max(size) < longest}


def _kept_engine(cache: EngineCache, key: EngineKey, trt: Any) -> Engine | None:
    """The engine from the cache; None if there is none that can be used."""
    plan = cache.load(key)
    try:
        return None if plan is None else Engine(trt, plan, key.dla_core)
    except BackendError:
        return None


def _checked_plan(
    model: ModelFile,
    options: RunOptions,
    trt: Any,
    device: Gpu,
    cache: EngineCache,
    key: EngineKey,
    progress: BuildProgress,
) -> bytes:
    """Build an engine of one size that answers as its model does.

    One that does not is remembered: no start takes minutes to build it again.

    Raises:
        ModelError: the file was overwritten meanwhile, so that the engine may be of either.
        BackendError: it cannot be built.
        WrongEngine: it does not answer so.
    """
    plan = build_plan(model, options, trt, device, cache, key, progress)
    engines = {options.sizes[0]: Engine(trt, plan, key.dla_core)}
    with closing(TensorRTBackend(model, options, device, engines)) as backend:
        wrong = disagreement(backend, model, options)
    if model.sha256 != key.onnx_sha256:
        raise ModelError(
            f"{model.path} has been overwritten while its engine was built: open it again"
        )
    if wrong:
        with suppress(OSError):  # it would only save the next build
            cache.store_refusal(key, wrong)
        raise WrongEngine(wrong, _remedy(key))
    return plan


def _require_not_wrong(cache: EngineCache, key: EngineKey) -> None:
    """Raise WrongEngine if the engine was built before, and was wrong."""
    if wrong := cache.load_refusal(key):
        again = f"; to build it again, remove {cache.refusal_path(key)}"
        raise WrongEngine(wrong, _remedy(key) + again)


def _remedy(key: EngineKey) -> str:
    other = "precision to fp16 or " if key.precision == "int8" else ""
    return f"set {other}backend to onnxruntime"


def _keep(cache: EngineCache, key: EngineKey, plan: bytes) -> str:
    """Store a plan; return why that failed, empty if it did not."""
    try:
        cache.store(key, plan)
    except OSError as error:
        return f"the engine cannot be kept for next time: {error}"
    return ""


class TensorRTBackend:
    """Runs an engine for each size, or the CPU where there is none; see ``Backend``.

    It may be opened in one thread and run in another: the CUDA context is taken for each call.
    """

    name = "tensorrt"
    threads = 1

    def __init__(
        self,
        model: ModelFile,
        options: RunOptions,
        device: Gpu,
        engines: Mapping[Size, Engine],
    ) -> None:
        """Allocate everything that a run needs, and run at every size.

        Args:
            model: the file.
            options: resolved.
            device: what the engines run on.
            engines: of some of the sizes, at least one.

        Raises:
            BackendError: TensorRT or the GPU refuses that.
        """
        self.card = model.card
        self.device = device.name
        if options.dla_core >= 0:
            self.device += f", DLA {options.dla_core}"
        self.device_times = dict.fromkeys(PARTS, 0.0)
        self.in_flight = options.in_flight
        self._gpu = device
        self._turn = 0
        self._started: deque[tuple[Network | NetworkOnCpu, int]] = deque()
        # A DLA knows one number of images only; fewer of them run as so many.
        batches = range(options.batch if options.dla_core >= 0 else 1, options.batch + 1)
        with device.current():
            needed = max(engine.memory for engine in engines.values())
            self._networks: dict[Size, list[Network | NetworkOnCpu]] = {
                size: [] for size in options.sizes
            }
            for _ in range(options.in_flight):  # a comprehension that fails keeps hold of all
                lane = Lane(device, needed)
                for size, engine in engines.items():
                    shape = (options.batch, *size.shape, 3)
                    network = Network(lane, engine, shape, batches, options.precision)
                    self._networks[size].append(network)
                for size in self._networks.keys() - engines:
                    on_cpu = NetworkOnCpu(model, options.change(input_sizes=(size,)))
                    self._networks[size].append(on_cpu)
            for engine in engines.values():
                engine.forget_plan()
            self.details = {
                "cuda_graph": self._capture(),
                "gpu_memory": "shared with the CPU" if device.maps_memory else "of its own",
            }
        warnings = [network.warning for network in self._all_networks() if network.warning]
        self.precision_warning = warnings[0] if warnings else ""
        self.sizes = warm_up(self, options) | _no_way_down(options.sizes, engines)

    def _capture(self) -> str:
        """Capture the CUDA graphs; say so, or why there are none."""
        try:
            library = DriverLibrary(self._gpu.driver)
            for network in self._all_networks():
                network.capture(library)
        except (BackendError, self._gpu.driver.Error) as error:
            for network in self._all_networks():
                network.forget_graphs()
            return f"no: {error}"
        return "yes"

    def _all_networks(self) -> Iterator[Network | NetworkOnCpu]:
        return chain.from_iterable(self._networks.values())

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``, which stays the same array."""
        with self._running():
            self._network.start(images)
            answer, self.device_times = self._network.finish(images)
        return answer

    def start(self, images: int = 1) -> None:
        """Begin a run, and turn to the lane of the next one."""
        with self._running():
            self._network.start(images)
        self._started.append((self._network, images))
        self._turn = (self._turn + 1) % self.in_flight
        self.resize(self._size)

    def finish(self) -> Candidates:
        """Wait for the run that was started first, and return what it found."""
        network, images = self._started.popleft()
        with self._running():
            answer, self.device_times = network.finish(images)
        return answer

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Have the context current, and raise nothing but BackendError."""
        driver = self._gpu.driver
        try:
            with self._gpu.current():
                yield
        except driver.MemoryError as error:
            raise BackendError(f"the GPU failed: {error}") from None
        except driver.Error as error:  # CUDA's other errors stay until the process ends
            raise BackendLost(f"the GPU failed: {error}") from None

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on."""
        self._size = size
        self._network = self._networks[size][self._turn]
        self.input: np.ndarray = self._network.input
        self.precision = self._network.precision

    def close(self) -> None:
        """Release the engines and their memory, in whichever thread; once more does nothing."""
        with suppress(BackendError):
            while self._started:
                self.finish()
        with suppress(self._gpu.driver.Error), self._gpu.current():  # it may be lost
            # Diagnostics may still read the shape of the input.
            self.input = np.broadcast_to(np.uint8(0), self.input.shape)
            self._started.clear()
            self._networks.clear()
            vars(self).pop("_network", None)

# SPDX-License-Identifier: Apache-2.0
"""A network's two passes as CUDA graphs: two launches a step instead of about a thousand.

A compact detector keeps one core busy with launches rather than the GPU with work. A CUDA graph is
a recording of all kernels of a pass, with the places of their tensors, for one shape of the batch.

``torch.cuda.make_graphed_callables`` does the same, but other threads, such as the one that pins
batches, may not call CUDA while it records, and its gradients are added up on another stream.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric.plugins.precision import Precision
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.detectors.interface import Detector, Module

SWITCH = "COMPACT_YOLO_CUDA_GRAPHS"
"""Environment variable: ``0`` trains without CUDA graphs."""
OFTEN = 5
"""Batches of a shape from which on it is worth a graph. Those before it run without one. Meanwhile
most other shapes of a recipe come too, so that the largest can be recorded first."""
MOST_SHAPES = 8
"""Graphs at a time. Other shapes, as of inputs that fit their pictures, run without one."""
WARM_UPS = 2
"""Passes before a recording, on its stream: libraries allocate their workspaces in the first."""

Network = Callable[[Tensor], list[Tensor]]
"""Images (N, H, W, 3) uint8 to raw maps."""


@dataclass(frozen=True)
class Recording:
    """The passes of a network for one shape. Each replay overwrites the tensors of the last.

    Attributes:
        images: (N, H, W, 3) uint8, which the forward pass reads.
        maps: raw maps, which it writes.
        slopes: gradients of the maps, which the backward pass reads.
        parameters: all of the network.
        gradients: of each parameter, which it writes; None: the parameter has none.
        forward: replays the forward pass.
        backward: replays the backward pass, after the forward pass.
    """

    images: Tensor
    maps: Sequence[Tensor]
    slopes: Sequence[Tensor]
    parameters: Sequence[nn.Parameter]
    gradients: Sequence[Tensor | None]
    forward: Callable[[], None]
    backward: Callable[[], None]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the raw maps of a batch. They, and the gradients, last until the next batch."""
        maps = _Replay.apply(self, images, *self.parameters)  # type: ignore[no-untyped-call]
        return list(maps)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: Recording, images: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        ctx.recording = recording
        recording.images.copy_(images, non_blocking=True)
        recording.forward()
        return tuple(map_.detach() for map_ in recording.maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        recording: Recording = ctx.recording
        for kept, new in zip(recording.slopes, slopes, strict=True):
            kept.copy_(new)
        recording.backward()
        # Other tensors of the same memory: PyTorch takes them as they are for ``grad``.
        return None, None, *(g if g is None else g.detach() for g in recording.gradients)


Record = Callable[[Network, Sequence[nn.Parameter], tuple[int, ...]], Recording]
"""Records a network with these parameters for one shape of images."""


class CudaRecorder:
    """Records passes as CUDA graphs that share their memory: they must be replayed in turns."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(
        self, network: Network, parameters: Sequence[nn.Parameter], shape: tuple[int, ...]
    ) -> Recording:
        """Record the passes for one shape.

        What they change, such as statistics of norms, changes in warm-ups as well.

        Args:
            network: what to record.
            parameters: all of it.
            shape: (N, H, W, 3).

        Raises:
            RuntimeError: it cannot be recorded, or the memory is full.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        images = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # other streams do not use what this one has kept
        # The outer context returns to this stream also where a recording fails.
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                maps = network(images)
                slopes = [torch.zeros_like(map_) for map_ in maps]
                torch.autograd.grad(maps, trained, slopes, allow_unused=True)
                del maps
            forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with self._recording(forward):
                maps = network(images)
            with self._recording(backward):
                found = torch.autograd.grad(maps, trained, slopes, allow_unused=True)
        torch.cuda.synchronize()
        gradients = dict(zip(trained, found, strict=True))
        return Recording(
            images,
            # Without their history, which would keep what adds gradients up on this stream.
            [map_.detach() for map_ in maps],
            slopes,
            parameters,
            [gradients.get(parameter) for parameter in parameters],
            forward.replay,
            backward.replay,
        )

    def _recording(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # thread_local: meanwhile another thread pins the batches to come.
        return torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )


class GraphedNetwork:
    """Replays a detector's passes where that is possible and worth it.

    Args:
        model: the detector; its parameters and buffers stay where they are from now on.
        precision: how Fabric casts.
        recorder: makes what records, which is used until something else is trained.

    Attributes:
        recordings: by the shape of the images.
        failed: nothing is recorded any more.
    """

    def __init__(
        self, model: Detector, precision: Precision, recorder: Callable[[], Record] = CudaRecorder
    ) -> None:
        self._model, self._network = model, casting(model, precision)
        self._parameters = [*model.parameters()]
        self._make_recorder = recorder
        self._record: Record | None = None
        self._trained: list[bool] = []
        self._seen: Counter[tuple[int, ...]] = Counter()
        self.recordings: dict[tuple[int, ...], Recording] = {}
        self.failed = False

    def begin(self) -> None:
        """Drop what was recorded if something else is trained now, or other norms are fixed."""
        trained = [m.training for m in self._model.modules()]
        trained += [p.requires_grad for p in self._parameters]
        if trained != self._trained:
            self.drop()
            self._trained = trained

    def drop(self) -> None:
        """Forget all recordings, which frees their memory."""
        self.recordings.clear()
        self._seen.clear()
        self._record = None

    def __call__(self, images: Tensor) -> list[Tensor] | None:
        """Return the raw maps of images (N, H, W, 3) uint8; None: run the network itself.

        The maps, and the gradients of the parameters, are overwritten with the next batch: only one
        backward pass may be between two calls of ``zero_grad``.
        """
        shape = tuple(images.shape)
        if shape not in self.recordings and not self.failed:
            self._seen[shape] += 1
            if self._seen[shape] >= OFTEN and len(self.recordings) < MOST_SHAPES:
                self._record_all()
        recording = self.recordings.get(shape)
        return recording(images) if recording else None

    def _record_all(self) -> None:
        """Record the shapes that came more than once.

        The largest first: smaller ones use its memory again, but not the other way round.
        """
        shapes = [s for s, times in self._seen.items() if times > 1 and s not in self.recordings]
        shapes = sorted(shapes, key=math.prod, reverse=True)
        try:
            self._record = self._record or self._make_recorder()
            with unchanged(self._model):
                for shape in shapes[: MOST_SHAPES - len(self.recordings)]:
                    recording = self._record(self._network, self._parameters, shape)
                    self.recordings[shape] = recording
        except Exception as error:  # whatever it is, the network runs as it is
            self.failed = True
            self.drop()
            # The end of a recording fails, too, and says less.
            reason = str(error.__context__ or error).partition("\n")[0]
            logging.getLogger(__name__).warning(
                "Training without CUDA graphs, which is slower: %s", reason
            )


def graphs_wanted() -> bool:
    """Return whether the environment allows CUDA graphs."""
    return os.environ.get(SWITCH, "1") != "0"


def casting(model: Detector, precision: Precision) -> Network:
    """Return what Fabric makes of a model, without its cache of cast weights.

    Weights that were cast before a recording would never change in it.
    """

    def network(images: Tensor) -> list[Tensor]:
        kind = images.device.type
        pixels = precision.convert_input(scaled(images))
        with precision.forward_context():
            dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
            with torch.autocast(kind, dtype, enabled, cache_enabled=False):
                maps = model(pixels)
        return list(precision.convert_output(maps))

    return network


def scaled(images: Tensor) -> Tensor:
    """Return what a network reads, (N, 3, H, W) in 0..1, of images (N, H, W, 3) uint8."""
    return images.permute(0, 3, 1, 2).float() / 255


@contextmanager
def unchanged(model: Module) -> Iterator[None]:
    """Context that restores a model's buffers, such as statistics, and the random numbers."""
    buffers = [*model.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    gpus = {b.device.index for b in buffers if b.device.type == "cuda"}
    try:
        with torch.random.fork_rng(sorted(gpus)):
            yield
    finally:
        for buffer, old in zip(buffers, kept, strict=True):
            buffer.copy_(old)

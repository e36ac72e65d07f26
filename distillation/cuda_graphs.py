"""Work for a GPU that is recorded once and replayed: CUDA graphs.

A step on a batch of usual size is a thousand kernels. The processor takes longer to launch them one by one
than the GPU takes to compute them; a recording is launched as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Inputs = Mapping[str, Tensor | float]

MOST = 200  # recordings; lengths of a batch up to 128, and the short last batches
_SEEN = None  # in the place of a recording that the next call makes


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    result: Any


class CudaGraphs:
    """Runs work on a GPU, and records it when its shape comes a second time.

    A replay does what the work did when it was recorded, on the same memory: the same kernels, with other
    inputs and new random numbers. The work must therefore ask nothing of the processor but the shapes of
    its inputs, never wait for the GPU, and write to tensors that stay where they are. What it returns is
    overwritten by the next call.

    The first call is made plainly: kernels are loaded, tensors that are to stay come into being.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        """
        Args:
            enabled: whether to record at all; if not, every call is made plainly.
        """
        self.device, self.enabled = device, enabled
        self._recordings: dict[Any, _Recording | None] = {}
        # One pool for all: only one recording runs at a time, and none needs what another left.
        self._pool = torch.cuda.graph_pool_handle() if enabled else None

    def __call__(self, name: str, work: Callable[[Inputs], Any], inputs: Inputs) -> Any:
        """Return what `work` returns, or its recording.

        Args:
            name: tells this work from others.
            work: called with the inputs on the device.
            inputs: tensors, pinned if they are not on the device yet, and numbers, which are tensors of no
                dimension in a recording.
        """
        if not self.enabled:
            return work(self._moved(inputs))
        key = name, *((k, getattr(value, "shape", None)) for k, value in inputs.items())
        if key not in self._recordings:
            if len(self._recordings) < MOST:
                self._recordings[key] = _SEEN
            return work(self._moved(inputs))
        if self._recordings[key] is _SEEN:
            try:
                self._recordings[key] = self._record(work, inputs)
            except RuntimeError as error:
                # Out of memory, or what this card or driver cannot record.
                self.enabled, reason = False, str(error).strip().partition("\n")[0]
        if not self.enabled:  # asked out here, where no error holds the failed attempt's tensors
            self._recordings.clear()
            torch.cuda.empty_cache()
            print(
                f"note: steps are launched kernel by kernel from here on: {reason}", file=sys.stderr
            )
            return work(self._moved(inputs))
        recording = self._recordings[key]
        _fill(recording.inputs, inputs)
        recording.graph.replay()
        return recording.result

    def _moved(self, inputs: Inputs) -> dict[str, Tensor | float]:
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }

    def _record(self, work: Callable[[Inputs], Any], inputs: Inputs) -> _Recording:
        own = {
            name: torch.empty_like(value, device=self.device)
            if isinstance(value, Tensor)
            else torch.empty((), device=self.device)
            for name, value in inputs.items()
        }
        _fill(own, inputs)
        graph = torch.cuda.CUDAGraph()
        # Another thread pins the next batch's memory meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work(own)
        return _Recording(graph, own, result)


def _fill(own: Mapping[str, Tensor], inputs: Inputs) -> None:
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            own[name].copy_(value, non_blocking=True)
        else:
            own[name].fill_(value)

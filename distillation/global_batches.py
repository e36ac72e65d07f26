"""Global batches, split over processes and micro-steps, and made while the one before is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from distillation.distributed import Runtime

Batch = dict[str, Tensor]


class BatchSource(Protocol):
    """Where batches come from; everything is a function of the epoch and the rows asked for."""

    def count(self, epoch: int) -> int:
        """Number of batches in an epoch."""

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        """Row numbers of every batch of an epoch, in order."""

    def width(self, epoch: int, rows: np.ndarray) -> int:
        """Padded length of a batch of these rows."""

    def tokens(self, epoch: int, rows: np.ndarray) -> int:
        """Number of tokens in these rows, padding not counted."""

    def weights(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """What each row counts in a batch's mean losses, [B]: 1, or its masked places."""

    def totals(self, epoch: int, rows: np.ndarray) -> dict[str, float]:
        """What every part of the global batch of these rows is told of the whole."""

    def collate(self, epoch: int, rows: np.ndarray, width: int) -> Batch:
        """The batch itself, on the CPU."""


@dataclass(frozen=True)
class GlobalBatch:
    """One optimiser step's rows on this process: (micro-batch, its share of the global batch) each."""

    epoch: int
    closes_epoch: bool
    rows: np.ndarray  # of the global batch
    tokens: int  # in them
    parts: list[tuple[Batch, float]]


def global_batches(
    source: BatchSource,
    accumulation: int,
    runtime: Runtime,
    counts: list[int],
    done: int,
    total: int,
) -> Iterator[GlobalBatch]:
    """Yield the global batches of steps `done` to `total`; each process reads its own rows alone.

    Args:
        accumulation: micro-batches a process makes of its rows.
        counts: batches in each epoch.
    """

    def make(epoch: int, rows: np.ndarray, closes_epoch: bool) -> GlobalBatch:
        # Every micro-batch of every process is as wide as the global batch, so that means over padded
        # positions are the same however the batch is split.
        width = source.width(epoch, rows)
        number = runtime.world * accumulation
        own = slice(runtime.rank * accumulation, (runtime.rank + 1) * accumulation)
        parts = []
        whole = source.totals(epoch, rows) if number > 1 else {}
        for chunk, share in zip(
            np.array_split(rows, number)[own], shares(epoch, rows, number)[own], strict=True
        ):
            if runtime.world > 1 and len(chunk) == 0:
                # Every process must take part in the exchange; this row weighs nothing.
                chunk = rows[:1]
            if len(chunk):
                batch = source.collate(epoch, chunk, width)
                if runtime.device.type == "cuda":
                    batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
                parts.append((batch | whole, share))
        return GlobalBatch(epoch, closes_epoch, rows, source.tokens(epoch, rows), parts)

    def shares(epoch: int, rows: np.ndarray, number: int) -> list[float]:
        if number == 1:
            return [1.0]
        weights = source.weights(epoch, rows)
        total_weight = max(float(weights.sum()), 1.0)
        return [float(part.sum()) / total_weight for part in np.array_split(weights, number)]

    def jobs() -> Iterator[tuple[int, np.ndarray, bool]]:
        before = 0
        for epoch, count in enumerate(counts):
            if before + count > done:
                plan = source.plan(epoch)
                for i in range(max(done - before, 0), min(count, total - before)):
                    yield epoch, plan[i], i == count - 1
            before += count

    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for job in jobs():
            coming = pool.submit(make, *job)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()

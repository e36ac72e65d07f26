"""Which rows form which batch: rows of like length together, so that little is padding."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from corpus.large_plan import LargePlan
from corpus.token_store import LARGE, TokenStore, ranges

if TYPE_CHECKING:
    import torch

_PURPOSE = zlib.crc32(b"batches")


def plan_batches(
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    pool: int = 100,
    drop_last: bool = False,
) -> list[np.ndarray]:
    """Cut n rows into batches for one epoch; every row is in exactly one of them.

    Shuffled: the rows are permuted, cut into pools of `pool * batch_size`, sorted by length inside
    each pool, cut into batches, and the batches are put in random order. The plan depends on
    nothing but the arguments. Not shuffled (evaluation): all rows sorted by length, the longest
    first, so that memory runs out at once or never; results go back by row number.

    Args:
        lengths: tokens in each row, integer [n].
        batch_size: rows in a batch, except in the one short batch that is left over.
        seed, epoch: what the random order is derived from.
        drop_last: leave out the short batch, unless it is the only one.

    Returns:
        Row numbers, int64 [batch_size] each.
    """
    if batch_size < 1 or pool < 1:
        raise ValueError(f"batch_size {batch_size} and pool {pool} must be at least 1")
    lengths = np.asarray(lengths)
    if shuffle:
        generator = np.random.default_rng((seed % 2**64, _PURPOSE, epoch))
        order = generator.permutation(len(lengths))
        pools = _cut(order, pool * batch_size)
        sorted_pools = (rows[np.argsort(lengths[rows], kind="stable")] for rows in pools)
        batches = [batch for rows in sorted_pools for batch in _cut(rows, batch_size)]
    else:
        batches = _cut(np.argsort(-lengths.astype(np.int64), kind="stable"), batch_size)
    if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size:
        batches.pop()
    if shuffle:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


@dataclass(frozen=True)
class StoreBatches:
    """Batches of one token store after another: what a training loop draws from.

    Attributes:
        stores: epoch e reads stores[e % len(stores)].
        batch_size: rows in a global batch, over all processes and micro-steps.
        seed: what the order is derived from.
        columns: further values of every row, such as labels, [n, …] each; a batch carries its rows' share
            under the same name. Only for sources of one store.
        token_columns: the same of every token, [T, …] each; a batch carries them as [B, width, …], 0 where
            padding is.
        pad_to: width of every batch; None pads to the longest row of the batch.
        drop_last: leave out an epoch's short last batch, as the published loops do.
        pool: batches drawn and sorted by length together; 1 makes batches of random rows.
    """

    stores: Sequence[TokenStore]
    batch_size: int
    seed: int
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    token_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    pad_to: int | None = None
    drop_last: bool = False
    pool: int = 100

    def store(self, epoch: int) -> TokenStore:
        """The store an epoch reads."""
        return self.stores[epoch % len(self.stores)]

    def count(self, epoch: int) -> int:
        """Number of batches in an epoch."""
        rows = len(self.store(epoch))
        whole, left = divmod(rows, self.batch_size)
        return whole + (left > 0 and not (self.drop_last and whole))

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        """Row numbers of every batch of an epoch, in order; of a large store made when asked for."""
        store = self.store(epoch)
        if len(store) > LARGE:
            seed = (self.seed % 2**64, _PURPOSE, epoch)
            return LargePlan(store.offsets, self.batch_size, seed, self.pool, self.drop_last)
        return plan_batches(
            store.lengths,
            self.batch_size,
            self.seed,
            epoch,
            pool=self.pool,
            drop_last=self.drop_last,
        )

    def width(self, epoch: int, rows: np.ndarray) -> int:
        """Padded length of a batch of these rows."""
        if self.pad_to is not None:
            return self.pad_to
        return int(self.store(epoch).spans(rows)[1].max())

    def tokens(self, epoch: int, rows: np.ndarray) -> int:
        """Number of tokens in these rows, padding not counted."""
        return int(self.store(epoch).spans(rows)[1].sum())

    def weights(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """What each row counts in a batch's mean losses, int64 [B]: all the same."""
        return np.ones(len(rows), np.int64)

    def totals(self, epoch: int, rows: np.ndarray) -> dict[str, float]:
        """What a part of a global batch is told of the whole: nothing."""
        return {}

    def collate(self, epoch: int, rows: np.ndarray, width: int) -> dict[str, torch.Tensor]:
        """Make a batch: the store's three tensors [B, width] and the columns."""
        import torch

        batch = self.store(epoch).collate(rows, width)
        batch |= {name: torch.from_numpy(v[rows]) for name, v in self.columns.items()}
        if self.token_columns:
            starts, lengths = self.store(epoch).spans(rows)
            inside = np.arange(width) < lengths[:, None]
            for name, values in self.token_columns.items():
                padded = np.zeros((len(rows), width, *values.shape[1:]), values.dtype)
                padded[inside] = values[ranges(starts, lengths)]
                batch[name] = torch.from_numpy(padded)
        return batch


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]

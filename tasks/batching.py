"""Which rows form which batch: rows of like length together, so that little is padding."""

from __future__ import annotations

import zlib

import numpy as np

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


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]

"""A plan of batches for stores of many millions of rows, made as it is asked for.

A random order of n rows held in memory takes 8 bytes a row and seconds to draw. Here the place of each
row comes from a keyed bijection of 0 … n - 1 (a Feistel network, walked until it stays inside), so that a
training run starts, and resumes anywhere, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


class LargePlan(Sequence):
    """Batches of like length as `plan_batches` makes them, but for the order of the pools.

    The rows are put in random order, cut into pools, sorted by length inside each pool and cut into
    batches; a pool's batches come in random order, one pool after the other.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        batch_size: int,
        seed: Sequence[int],
        pool: int,
        drop_last: bool,
    ) -> None:
        """
        Args:
            offsets: of the store's rows, int64 [n + 1]; only those of a pool are read at a time.
            batch_size, pool, drop_last: see `plan_batches`.
            seed: what the order derives from.
        """
        self._offsets, self._batch_size, self._pool = offsets, batch_size, pool
        self._seed, self._rows = tuple(seed), len(offsets) - 1
        whole, left = divmod(self._rows, batch_size)
        self._length = whole + (left > 0 and not (drop_last and whole))
        self._keys = np.random.default_rng(self._seed).integers(
            2**64, size=_ROUNDS, dtype=np.uint64
        )
        self._batches_of = lru_cache(maxsize=2)(self._make_pool)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        """Row numbers of batch `index`, int64 [at most batch_size]."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        number, place = divmod(index, self._pool)
        return self._batches_of(number)[place]

    def _make_pool(self, number: int) -> list[np.ndarray]:
        size = self._pool * self._batch_size
        places = np.arange(number * size, min((number + 1) * size, self._rows))
        rows = shuffled(places, self._rows, self._keys)
        lengths = self._offsets[rows + 1] - self._offsets[rows]
        rows = rows[np.argsort(lengths, kind="stable")]
        starts = range(0, len(rows), self._batch_size)
        batches = [rows[start : start + self._batch_size] for start in starts]
        del batches[self._length - number * self._pool :]  # the short one, where it is dropped
        order = np.random.default_rng((*self._seed, number)).permutation(len(batches))
        return [batches[i] for i in order]


def shuffled(places: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """What stands at `places` (int64) of a random order of 0 … size - 1 that `keys` (uint64) choose."""
    half = max(1, -(-max(size - 1, 1).bit_length() // 2))  # bits
    low = np.uint64((1 << half) - 1)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))

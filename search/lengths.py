"""Length configurations as whole numbers, and what they cost.

A configuration of an encoder of N layers is N lengths, l_1 ≥ … ≥ l_N: how many of L tokens each layer passes
on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEAST = 2
Lengths = tuple[int, ...]


def multiply_accumulates(
    lengths: Sequence[np.ndarray | int], tokens: np.ndarray | int, hidden: int, inner: int
) -> np.ndarray | int:
    """Multiply-accumulates of the matrix products of sequences, with a head of two scores a token.

    MACs = Σ_i [4·n·d² + 2·n²·d + 2·m·d·f] + 2·L·d, where layer i gets n = l_(i-1) tokens and passes m = l_i
    on. Computed are fewer: what follows the attention scores is not computed for tokens that are dropped.

    Args:
        lengths: of each layer; arrays for sequences of several lengths.
        tokens: L, of each sequence.
        hidden, inner: d and f, widths of the states and of the feed-forward layers.
    """
    total, before = 2 * tokens * hidden, tokens
    for length in lengths:
        total = (
            total + 4 * before * hidden**2 + 2 * before**2 * hidden + 2 * length * hidden * inner
        )
        before = length
    return total


def shortened(shares: Sequence[float], tokens: np.ndarray) -> list[np.ndarray]:
    """Tokens left behind each layer of sequences of so many tokens, where lengths are shares of them."""
    return [
        np.minimum(np.maximum(np.ceil(tokens * share - 1e-6), LEAST), tokens).astype(np.int64)
        for share in shares
    ]


def uniform(longest: int, layers: int, drop: float, least: int = LEAST) -> Lengths:
    """Every layer drops the same share of its tokens: l_i = ⌈l_(i-1) · (1 - drop)⌉, at least `least`."""
    return chain(longest, [1 - drop] * layers, least)


def chain(longest: int, ratios: Sequence[float], least: int = LEAST) -> Lengths:
    """l_i = max(least, ⌈l_(i-1) · r_i⌉): never growing, whatever the ratios from 0 to 1 are."""
    lengths, length = [], longest
    for ratio in ratios:
        length = min(length, max(least, math.ceil(length * ratio - 1e-9)))
        lengths.append(length)
    return tuple(lengths)


def published_floor(longest: int, layers: int, drop: float = 0.2) -> int:
    """The least length of the published search: the middle of the last layer's interval under that drop."""
    return math.ceil(longest * ((1 - drop) ** layers + (1 - drop) ** (layers + 1)) / 2)


def spread_uniform(longest: int, layers: int, count: int, drop: float, least: int) -> list[Lengths]:
    """`count` uniform configurations between the full one and that of `drop`, evenly spaced by their mean."""

    def mean(share: float) -> float:
        return sum(uniform(longest, layers, share, least)) / (layers * longest)

    low, found = mean(drop), []
    for i in range(1, count + 1):
        target, few, many = low + (1 - low) * i / (count + 1), 0.0, drop
        for _ in range(60):
            middle = (few + many) / 2
            few, many = (middle, many) if mean(middle) > target else (few, middle)
        found.append(uniform(longest, layers, many, least))
    return found

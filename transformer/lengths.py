"""Sequences that get shorter from layer to layer: drop and restore (Kim and Cho, 2021).

Layer i passes l_i of its n tokens on, those that receive most attention, and works on no others beyond its
attention. A token keeps the output of the last layer that it went through:

    s_j = sum of A[h, q, j] over heads h and queries q        K_i = the l_i highest of s
    I_i = I_(i-1)[K_i]                                        R_i = R_(i-1), with rows I_i of layer i's output

R_N is what a head reads. Shapes: B sequences, L positions, n of them left, H hidden width, A heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from files.errors import UserError

MASKED_SCORE = -10000.0  # added to the attention scores of padding
LEAST = 2  # tokens that are left of a sequence, if it has them
# Elements of attention held at once: as many as stay in a CPU's cache, and as a GPU is busy with.
_CPU_ELEMENTS, _GPU_ELEMENTS = 2**18, 2**26


class LengthConfig(NamedTuple):
    """How many tokens each layer passes on.

    Attributes:
        lengths: of each layer, from the lowest: tokens (int), or a share of the sequence's own tokens above 0
            and up to 1 (float); none is above the one before.
        keep_first: whether the first token, [CLS], is never dropped.
        count_padding: rank tokens as the original does, by what they receive from padding as well.
        layers: those that run; None for all. One that does not run passes on what it gets.
    """

    lengths: tuple[int | float, ...]
    keep_first: bool = False
    count_padding: bool = False
    layers: tuple[int, ...] | None = None

    def kept(self, layer: int, tokens: Tensor) -> Tensor:
        """How many tokens of sequences of so many are left behind a layer, int64 of the shape of `tokens`."""
        length = self.lengths[layer]
        if isinstance(length, int):
            return tokens.clamp(max=max(length, LEAST))
        kept = (
            (tokens.double() * length - 1e-6).ceil().long()
        )  # 0.7 · 10 is 7, whatever it rounds to
        return torch.minimum(kept.clamp(min=LEAST), tokens)

    def most_kept(self, layer: int, width: int) -> int:
        """How many are left at most of sequences of up to `width`, which a traced graph has as a symbol."""
        length = self.lengths[layer]
        if not isinstance(length, int):
            length = math.ceil(width * length - 1e-6)
        return torch.sym_min(torch.sym_max(length, LEAST), width)

    def drops(self, layer: int, before: int | float, width: int) -> bool:
        """Whether a layer may drop a token of a sequence of up to `width`.

        Args:
            before: the length that layers below have left, of the kind of `lengths`; infinity if all.
        """
        length = self.lengths[layer]
        if torch.compiler.is_exporting():  # a graph is to hold for every width
            return length < min(before, 1.0 if isinstance(length, float) else math.inf)
        if isinstance(length, int) or before < math.inf:
            return length < min(before, width)
        return width * (1 - length) > 1 - 1e-6

    def check(self, layers: int) -> None:
        """Refuse a configuration that an encoder of so many layers cannot follow.

        Raises:
            UserError: it has another number of lengths, one is no length, or they grow.
        """
        told = ",".join(f"{length:.4g}" for length in self.lengths)
        if len(self.lengths) != layers:
            raise UserError(
                f"lengths {told}: {len(self.lengths)} of them; expected one for each of {layers} layers"
            )
        kinds = {type(length) for length in self.lengths}
        fine = kinds == {int} and min(self.lengths) >= LEAST
        if not (fine or (kinds == {float} and 0 < min(self.lengths) <= max(self.lengths) <= 1)):
            raise UserError(
                f"lengths {told}: expected numbers of tokens from {LEAST}, or shares above 0 and up to 1"
            )
        if any(b > a for a, b in zip(self.lengths, self.lengths[1:], strict=False)):
            raise UserError(f"lengths {told}: grow; a token that is dropped does not come back")

    def of_tokens(self, longest: int) -> LengthConfig:
        """The same in tokens of sequences of `longest`."""
        kept = (self.kept(i, torch.tensor(longest)) for i in range(len(self.lengths)))
        return self._replace(lengths=tuple(map(int, kept)))

    def of_shares(self, longest: int) -> LengthConfig:
        """The same as shares of a sequence; tokens are those of sequences of `longest`."""
        lengths = self.lengths
        if isinstance(lengths[0], int):
            lengths = tuple(min(length / longest, 1.0) for length in lengths)
        return self._replace(lengths=lengths)


def parse_lengths(text: str) -> tuple[int | float, ...]:
    """Read `308,247,198` (tokens) or `0.8,0.64,0.51` (shares); brackets around them are passed over.

    Raises:
        ValueError: it is neither.
    """
    words = text.strip().strip("()[]").strip().rstrip(",").split(",")
    if all("." in word for word in words):
        return tuple(map(float, words))
    return tuple(map(int, words))


def received_attention(
    query: Tensor, key: Tensor, mask: Tensor, count_padding: bool = False
) -> Tensor:
    """Sum of the attention that each token receives, over heads and queries; nothing is learned through it.

    Args:
        query, key: [B, A, n, H / A].
        mask: [B, 1, 1, n], added to the scores: 0 for tokens.
        count_padding: whether padding asks, too.

    Returns:
        float32 [B, n].
    """
    batch, heads, count, _ = query.shape
    asking = torch.ones_like(mask) if count_padding else (mask == 0).to(query.dtype)
    with torch.no_grad():
        if torch.compiler.is_exporting():
            return _received(query, key, mask, asking)
        held = _CPU_ELEMENTS if query.device.type == "cpu" else _GPU_ELEMENTS
        rows = max(1, held // (heads * count * count))
        some = (slice(start, start + rows) for start in range(0, batch, rows))
        return torch.cat([_received(query[s], key[s], mask[s], asking[s]) for s in some])


def _received(query: Tensor, key: Tensor, mask: Tensor, asking: Tensor) -> Tensor:
    scores = (query @ key.transpose(-1, -2)).mul_(1 / math.sqrt(query.shape[-1])).add_(mask)
    over_heads = scores.softmax(-1).sum(1)  # [rows, n, n]
    return (asking[:, 0].to(over_heads.dtype) @ over_heads)[:, 0].float()


def rows_of(hidden: Tensor, kept: Tensor) -> Tensor:
    """Rows [..., m, H] of [..., n, H]; `kept` is int64 [B, m]."""
    index = kept.view(kept.shape[0], *[1] * (hidden.dim() - 3), kept.shape[1], 1)
    return hidden.gather(-2, index.expand(*hidden.shape[:-2], kept.shape[1], hidden.shape[-1]))


def drop_and_restore(
    layers: Sequence, hidden: Tensor, attention_mask: Tensor, config: LengthConfig
) -> Tensor:
    """Run layers on fewer and fewer tokens; return R_N, [B, L, H].

    How many tokens of a sequence are left depends on its own length alone, not on that of the batch. Where
    padding stood the result is of no meaning.

    Args:
        layers: those of a `BertEncoder`.
        hidden: embedding output, [B, L, H].
        attention_mask: [B, L], 1 for tokens.
    """
    config = LengthConfig(*config)  # of which tracing makes a plain tuple
    batch, width, _ = hidden.shape
    tokens = attention_mask.sum(1)
    alive = attention_mask.bool()
    rows = torch.arange(batch, device=hidden.device)[:, None]
    places = torch.arange(width, device=hidden.device).expand(batch, width)
    mask, before, restored = _mask(alive, hidden), math.inf, None
    for i in range(len(layers)) if config.layers is None else config.layers:
        if not config.drops(i, before, width):
            hidden, _ = layers[i](hidden, mask, (False, False, False))
            continue
        if restored is None:  # a row more takes what is no token any longer
            restored = hidden.new_zeros((batch, width + 1, hidden.shape[-1]))
        restored = restored.index_put((rows, torch.where(alive, places, width)), hidden)
        before, left = config.lengths[i], config.kept(i, tokens)
        wide = config.most_kept(i, width)

        def choose(received: Tensor, alive=alive, places=places, wide=wide) -> Tensor:
            received = received.masked_fill(~alive, -math.inf)
            if config.keep_first:
                received = received.masked_fill(places == 0, math.inf)
            return received.topk(wide, dim=1).indices

        hidden, kept = layers[i].shorten(hidden, mask, choose, config.count_padding)
        places = places.gather(1, kept)
        alive = torch.arange(wide, device=hidden.device) < left[:, None]
        mask = _mask(alive, hidden)
    if restored is None:
        return hidden
    return restored.index_put((rows, torch.where(alive, places, width)), hidden)[:, :width]


def _mask(alive: Tensor, hidden: Tensor) -> Tensor:
    return (1.0 - alive[:, None, None, :].to(hidden.dtype)) * MASKED_SCORE

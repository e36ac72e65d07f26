"""The BERT encoder as tensors, and what a model call returns.

Shapes: B sequences in the batch, L positions, H hidden width, A attention heads.
Parameter names are those of Google's and Hugging Face's checkpoints, so that files travel both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.configuration import EncoderConfig
from transformer.lengths import (
    MASKED_SCORE,
    LengthConfig,
    drop_and_restore,
    received_attention,
    rows_of,
)
from transformer.linear import Linear

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh}


class Collect(NamedTuple):
    """What a model call is to return besides its output: of each kind the layers, in the order wanted.

    A layer whose scores and probabilities are not wanted takes fused attention, which never holds an
    L × L matrix.

    Attributes:
        hidden: hidden states 0 … N; 0 is the embedding output, i the output of layer i.
        scores: layers (0 … N-1) whose attention scores to return, before the softmax, mask added.
        probs: layers whose attention probabilities to return, after the softmax.
        qkv: layers whose queries, keys and values to return.
    """

    hidden: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()
    probs: tuple[int, ...] = ()
    qkv: tuple[int, ...] = ()

    @classmethod
    def everything(cls, layers: int) -> Collect:
        """All of every layer of an encoder of so many layers."""
        return cls(tuple(range(layers + 1)), *[tuple(range(layers))] * 3)

    def depth(self) -> int:
        """The number of layers that have to run."""
        return max([0, *self.hidden, *(i + 1 for i in (*self.scores, *self.probs, *self.qkv))])

    def __or__(self, other: Collect) -> Collect:
        """What either of the two wants, each layer once."""
        return Collect(*(tuple(dict.fromkeys(a + b)) for a, b in zip(self, other, strict=True)))


NOTHING = Collect()


# Of one layer: whether scores, probabilities, and queries with keys and values are wanted; and what it gives.
Wanted = tuple[bool, bool, bool]
Attended = tuple[Tensor | None, Tensor | None, tuple[Tensor, Tensor, Tensor] | None]


class EncoderOutput(NamedTuple):
    """What a model call returns: its output, and what its `Collect` names, in that order.

    Attributes:
        output: pooled vector [B, H], logits [B, C] or [.., V], or None where a model has none.
        hidden: [B, L, H] each (or [B, L, fit_size] after `fit_dense`).
        scores, probs: [B, A, L, L] each.
        qkv: queries, keys and values of each layer, [B, A, L, H / A] each.
    """

    output: Tensor | None
    hidden: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    probs: tuple[Tensor, ...] = ()
    qkv: tuple[tuple[Tensor, Tensor, Tensor], ...] = ()


class Dropout(nn.Module):
    """Set each element to 0 with probability p and divide the others by 1 - p, while training.

    torch draws its masks one by one on a CPU, which takes a tenth of a distillation step. There they are
    cut from the 64-bit words of a generator of numpy's, 16 bits an element (p is rounded to 1/65,536),
    whose seed comes from torch's generator: masks repeat under `torch.manual_seed` as ever.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return hidden
        if hidden.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(hidden, self.p)
        dropped = round(self.p * 2**16)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        words = np.random.SFC64(seed).random_raw(hidden.numel() // 4 + 1)
        noise = torch.from_numpy(words.view(np.int16)[: hidden.numel()]).view(hidden.shape)
        return _Dropped.apply(hidden, noise >= dropped - 2**15, 2**16 / (2**16 - dropped))


class _Dropped(torch.autograd.Function):
    """hidden · keep · scale; saves the booleans alone."""

    @staticmethod
    def forward(ctx, hidden: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (hidden * keep).mul_(scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (grad * keep).mul_(ctx.scale), None, None


class Sinusoids(nn.Module):
    """Fixed positions: sin(l / 10000^(2i / H)) in the even places 2i, the cosine in the odd ones."""

    def __init__(self, length: int, width: int):
        super().__init__()
        places = torch.arange(length)[:, None]
        angles = places / 10_000 ** (torch.arange(0, width, 2) / width)  # [L, H / 2]
        values = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]
        self.register_buffer("weight", values, persistent=False)


class BertEmbeddings(nn.Module):
    """Word + position + segment embeddings (where a family has those), LayerNorm, dropout."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.pad_id, self.after_padding = config.pad_token_id, config.family.after_padding
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        size = config.max_position_embeddings, config.hidden_size
        if config.family.sinusoids:
            self.position_embeddings = Sinusoids(*size)
        else:
            self.position_embeddings = nn.Embedding(*size)
        if config.family.segments:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.Identity()
        if config.family.embedding_norm:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        if self.after_padding:
            tokens = input_ids != self.pad_id
            positions = self.position_embeddings(tokens.cumsum(1) * tokens + self.pad_id)
        else:
            # [L, H], no gather needed
            positions = self.position_embeddings.weight[: input_ids.shape[1]]
        embedded = self.word_embeddings(input_ids) + positions
        if hasattr(self, "token_type_embeddings"):
            if self.token_type_embeddings.num_embeddings == 1:
                token_type_ids = torch.zeros_like(token_type_ids)
            embedded = embedded + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(embedded))


class BertSelfAttention(nn.Module):
    """Multi-head attention that shows its scores when asked and takes the faster path when not."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, mask: Tensor, wanted: Wanted, queried: Tensor | None = None
    ) -> tuple[Tensor, Attended]:
        """Return the context [B, L, H], and of the attention what is wanted.

        Args:
            queried: the states [B, Q, H] of the positions whose context is wanted; None for all L.
        """
        query, key, value = self.project(hidden, queried)
        return self.attend(query, key, value, mask, wanted)

    def project(
        self, hidden: Tensor, queried: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, A, Q, H / A], keys and values [B, A, L, H / A]."""
        queried = hidden if queried is None else queried
        batch = queried.shape[0]
        return tuple(
            linear(states).view(batch, states.shape[1], self.heads, -1).transpose(1, 2)
            for linear, states in (
                (self.query, queried),
                (self.key, hidden),
                (self.value, hidden),
            )
        )

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, wanted: Wanted
    ) -> tuple[Tensor, Attended]:
        """The context of queries, [B, Q, H]; see `forward`."""
        with_scores, with_probs, with_qkv = wanted
        scores = probs = None
        if with_scores or with_probs or self._fused_is_slower(query):
            scores = (query @ key.transpose(-1, -2)).div_(math.sqrt(query.shape[-1]))
            scores += mask.to(query.dtype)
            probs = scores.softmax(dim=-1)
            context = self.dropout(probs) @ value
        else:
            dropout = self.dropout.p if self.training else 0.0
            context = F.scaled_dot_product_attention(
                query, key, value, mask.to(query.dtype), dropout
            )
        context = context.transpose(1, 2).flatten(-2)
        return context, (
            scores if with_scores else None,
            probs if with_probs else None,
            (query, key, value) if with_qkv else None,
        )

    def _fused_is_slower(self, query: Tensor) -> bool:
        """On a CPU torch has no fused dropout, and its bfloat16 kernel takes 1.5 times as long."""
        if query.device.type != "cpu":
            return False
        return query.dtype == torch.bfloat16 or (self.training and self.dropout.p > 0)


class BertResidual(nn.Module):
    """Linear, dropout, then LayerNorm of the sum with what went around (post-LN)."""

    def __init__(self, width: int, config: EncoderConfig, dropout: bool = True):
        super().__init__()
        self.dense = Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob if dropout else 0.0)

    def forward(self, hidden: Tensor, around: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + around)


class BertAttention(nn.Module):
    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertResidual(config.hidden_size, config, config.family.attention_dropout_out)

    def forward(
        self, hidden: Tensor, mask: Tensor, wanted: Wanted, queried: Tensor | None = None
    ) -> tuple[Tensor, Attended]:
        context, seen = self.self(hidden, mask, wanted, queried)
        return self.output(context, hidden if queried is None else queried), seen


class BertIntermediate(nn.Module):
    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """One post-LN Transformer layer."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertResidual(config.intermediate_size, config)

    def forward(
        self, hidden: Tensor, mask: Tensor, wanted: Wanted, queried: Tensor | None = None
    ) -> tuple[Tensor, Attended]:
        attended, seen = self.attention(hidden, mask, wanted, queried)
        return self.output(self.intermediate(attended), attended), seen

    def shorten(
        self,
        hidden: Tensor,
        mask: Tensor,
        choose: Callable[[Tensor], Tensor],
        count_padding: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the output of the tokens that are chosen, [B, m, H], and which those are, int64 [B, m].

        All tokens are attended to; what follows is computed for the chosen ones alone, with the same
        result as if they were chosen behind the attention.

        Args:
            choose: from the attention that each token receives, [B, n], to the chosen ones.
            count_padding: see `received_attention`.
        """
        attention = self.attention
        query, key, value = attention.self.project(hidden)
        kept = choose(received_attention(query, key, mask, count_padding))
        nothing = (False, False, False)
        context, _ = attention.self.attend(rows_of(query, kept), key, value, mask, nothing)
        attended = attention.output(context, rows_of(hidden, kept))
        return self.output(self.intermediate(attended), attended), kept


def classifier_dropout(config: EncoderConfig) -> float:
    """The dropout before a classifier."""
    given = config.classifier_dropout
    return config.hidden_dropout_prob if given is None else given


class BertEncoder(nn.Module):
    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))


class BertPooler(nn.Module):
    """tanh(W · h_[CLS] + b); before a family's classifier with its activation and dropout."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.family.pooler_activation]
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(self.dropout(hidden[:, 0])))


class FirstState(nn.Module):
    """h_[CLS] itself, in place of a pooler."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden[:, 0]


class BertBody(nn.Module):
    """Embeddings, layers and pooler: the part of every model that stands under `bert.`."""

    def __init__(self, config: EncoderConfig, classifies: bool = False):
        """
        Args:
            classifies: whether a classifier reads the pooled vector.
        """
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = None
        if classifies or config.family.pooler:
            # RoBERTa's classifier drops out parts of the state before its dense layer as well.
            before = classifies and config.family.after_padding
            dropout = classifier_dropout(config) if before else 0.0
            self.pooler = BertPooler(config, dropout) if config.family.head_layers else FirstState()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        collect: Collect = NOTHING,
        pool: bool = True,
        columns: Tensor | None = None,
        lengths: LengthConfig | None = None,
    ) -> EncoderOutput:
        """Run the encoder.

        Args:
            input_ids: int64 [B, L].
            token_type_ids: int64 [B, L], segment 0 or 1; None means all 0.
            attention_mask: [B, L], 1 for tokens and 0 for padding; None means no padding.
            pool: whether the pooled vector is wanted; if not, layers above the last one collected are
                not run.
            columns: int64 [B], the one position of each sequence that the last layer computes: its
                hidden state is then [B, 1, H].
            lengths: how many tokens each layer passes on; the last hidden state alone can then be collected,
                and holds each token's state in the last layer that it went through.
        """
        collect = Collect(*collect)  # of which tracing makes a plain tuple
        count, pool = len(self.encoder.layer), pool and self.pooler is not None
        depth = count if pool else collect.depth()
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.embeddings(input_ids, token_type_ids)
        if lengths is not None:
            if any(collect[1:]) or {*collect.hidden} - {count}:
                raise ValueError("of a shortened sequence only the last hidden state is known")
            hidden = drop_and_restore(self.encoder.layer, hidden, attention_mask, lengths)
            return EncoderOutput(
                self.pooler(hidden) if pool else None, (hidden,) * len(collect.hidden)
            )
        mask = (
            1.0 - attention_mask[:, None, None, :].to(hidden.dtype)
        ) * MASKED_SCORE  # [B, 1, 1, L]
        states, seen = [hidden], []
        for i in range(depth):
            wanted = (i in collect.scores, i in collect.probs, i in collect.qkv)
            queried = None
            if columns is not None and i == depth - 1:
                queried = hidden[torch.arange(hidden.shape[0], device=hidden.device), columns, None]
            elif i == count - 1 and not (self.training or count in collect.hidden or any(wanted)):
                # The pooler reads one position alone. Training computes all, lest dropout draw again.
                queried = hidden[:, :1]
            hidden, attended = self.encoder.layer[i](hidden, mask, wanted, queried)
            states.append(hidden)
            seen.append(attended)
        return EncoderOutput(
            self.pooler(hidden) if pool else None,
            tuple(states[i] for i in collect.hidden),
            *(
                tuple(seen[i][kind] for i in layers)
                for kind, layers in enumerate((collect.scores, collect.probs, collect.qkv))
            ),
        )

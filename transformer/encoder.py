"""The BERT encoder as tensors, and what a model call returns.

Shapes: B sequences in the batch, L positions, H hidden width, A attention heads.
Parameter names are those of Google's and Hugging Face's checkpoints, so that files travel both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.configuration import BertConfig
from transformer.linear import Linear

MASKED_SCORE = -10000.0  # added to the attention scores of padding

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class EncoderOutput(NamedTuple):
    """What a model call returns.

    Attributes:
        output: pooled vector [B, H], logits [B, C], or None where a model has neither.
        attentions: attention scores [B, A, L, L] before the softmax, mask added, one tensor for each
            layer asked for, in the order asked.
        hidden_states: [B, L, H] (or [B, L, fit_size] after `fit_dense`), likewise; index 0 is the
            embedding output, index i the output of layer i.
    """

    output: Tensor | None
    attentions: tuple[Tensor, ...]
    hidden_states: tuple[Tensor, ...]


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


class BertEmbeddings(nn.Module):
    """Word + position + segment embeddings, LayerNorm, dropout."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[
            : input_ids.shape[1]
        ]  # [L, H], no gather needed
        embedded = (
            self.word_embeddings(input_ids) + positions + self.token_type_embeddings(token_type_ids)
        )
        return self.dropout(self.LayerNorm(embedded))


class BertSelfAttention(nn.Module):
    """Multi-head attention that shows its scores when asked and takes the faster path when not."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool, asking: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context [B, L, H] and the scores [B, A, L, L] or None.

        Args:
            asking: the states [B, Q, H] of the places whose context is wanted; None for all L.
        """
        asking = hidden if asking is None else asking
        batch = asking.shape[0]
        query, key, value = (
            linear(states).view(batch, states.shape[1], self.heads, -1).transpose(1, 2)
            for linear, states in (
                (self.query, asking),
                (self.key, hidden),
                (self.value, hidden),
            )
        )
        if with_scores or self._fused_is_slower(query):
            scores = (query @ key.transpose(-1, -2)).div_(math.sqrt(query.shape[-1]))
            scores += mask.to(query.dtype)
            context = self.dropout(scores.softmax(dim=-1)) @ value
        else:
            dropout = self.dropout.p if self.training else 0.0
            context = F.scaled_dot_product_attention(
                query, key, value, mask.to(query.dtype), dropout
            )
        context = context.transpose(1, 2).flatten(-2)
        return context, scores if with_scores else None

    def _fused_is_slower(self, query: Tensor) -> bool:
        """On a CPU torch has no fused dropout, and its bfloat16 kernel takes 1.5 times as long."""
        if query.device.type != "cpu":
            return False
        return query.dtype == torch.bfloat16 or (self.training and self.dropout.p > 0)


class BertResidual(nn.Module):
    """Linear, dropout, then LayerNorm of the sum with what went around (post-LN)."""

    def __init__(self, width: int, config: BertConfig):
        super().__init__()
        self.dense = Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, around: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + around)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertResidual(config.hidden_size, config)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool, asking: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        context, scores = self.self(hidden, mask, with_scores, asking)
        return self.output(context, hidden if asking is None else asking), scores


class BertIntermediate(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """One post-LN Transformer layer."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertResidual(config.intermediate_size, config)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool, asking: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        attended, scores = self.attention(hidden, mask, with_scores, asking)
        return self.output(self.intermediate(attended), attended), scores


class BertEncoder(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))


class BertPooler(nn.Module):
    """tanh(W · h_[CLS] + b)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden[:, 0]))


class BertBody(nn.Module):
    """Embeddings, layers and pooler: the part of every model that stands under `bert.`."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_layers: Sequence[int] | None = None,
        hidden_layers: Sequence[int] | None = None,
        pool: bool = True,
        columns: Tensor | None = None,
    ) -> EncoderOutput:
        """Run the encoder.

        Args:
            input_ids: int64 [B, L].
            token_type_ids: int64 [B, L], segment 0 or 1; None means all 0.
            attention_mask: [B, L], 1 for tokens and 0 for padding; None means no padding.
            attention_layers: layers (0 … N-1) whose attention scores to return; None means all. Layers
                not named use fused attention, which never holds an L × L matrix.
            hidden_layers: hidden states (0 … N, 0 = embeddings) to return; None means all.
            pool: whether the pooled vector is wanted; if not, layers above the last one asked for
                are not run.
            columns: int64 [B], the one place of each sequence that the last layer is asked about: its
                hidden state is then [B, 1, H], and nothing is computed there for the other places.
        """
        count = len(self.encoder.layer)
        attention_layers = range(count) if attention_layers is None else attention_layers
        hidden_layers = range(count + 1) if hidden_layers is None else hidden_layers
        depth = count if pool else max([0, *hidden_layers, *(i + 1 for i in attention_layers)])
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = (
            1.0 - attention_mask[:, None, None, :].to(hidden.dtype)
        ) * MASKED_SCORE  # [B, 1, 1, L]
        hidden_states, attentions = {0: hidden}, {}
        for i in range(depth):
            asking = None
            if columns is not None and i == depth - 1:
                asking = hidden[torch.arange(hidden.shape[0], device=hidden.device), columns, None]
            elif i == count - 1 and not (
                self.training or count in hidden_layers or i in attention_layers
            ):
                # The pooler reads one place alone. Training computes all, lest dropout draw again.
                asking = hidden[:, :1]
            hidden, scores = self.encoder.layer[i](hidden, mask, i in attention_layers, asking)
            hidden_states[i + 1], attentions[i] = hidden, scores
        return EncoderOutput(
            self.pooler(hidden) if pool else None,
            tuple(attentions[i] for i in attention_layers),
            tuple(hidden_states[i] for i in hidden_layers),
        )

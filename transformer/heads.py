"""The heads of pre-training: masked words, next sentence.

Shapes: B sequences in the batch, L positions, H hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer.configuration import EncoderConfig
from transformer.encoder import ACTIVATIONS
from transformer.linear import Linear, linear


class WordStates(NamedTuple):
    """Scores over the vocabulary before they are computed: states · weightᵀ + bias.

    Attributes:
        states: [N, H], one for each position asked for.
        weight, bias: [V, H] and [V].
    """

    states: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self) -> Tensor:
        """The logits [N, V]."""
        return linear(self.states, self.weight, self.bias)


class BertPredictionHeadTransform(nn.Module):
    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.activation(self.dense(hidden)))


class BertLMPredictionHead(nn.Module):
    """Scores over the vocabulary; the projection is the word-embedding matrix itself."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        bias = torch.zeros(config.vocab_size)
        if config.family.head_layers:
            self.transform = BertPredictionHeadTransform(config)
            self.bias = nn.Parameter(bias)
        else:
            self.transform = nn.Identity()
            self.register_buffer("bias", bias, persistent=False)

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> WordStates:
        return WordStates(self.transform(hidden), word_embeddings, self.bias)


class BertHeads(nn.Module):
    """`cls`: the masked-language-model head, the next-sentence head, or both."""

    def __init__(self, config: EncoderConfig, predictions: bool, next_sentence: bool):
        super().__init__()
        if predictions:
            self.predictions = BertLMPredictionHead(config)
        if next_sentence:
            self.seq_relationship = Linear(config.hidden_size, 2)

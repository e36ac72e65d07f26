"""Arithmetic of the models, derived from their shapes: parameters and multiply-accumulates.

Counted are the matrix products (linear layers, attention scores, weighted sums of values); what is left
out (embeddings, softmax, LayerNorm, GELU) is a few thousandths of it. A backward pass costs twice its
forward pass: the gradients of the inputs and those of the weights. GFLOP are 2 · multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformer.configuration import BertConfig


def encoder_macs(config: BertConfig, length: float, read: int | None = None) -> float:
    """Multiply-accumulates of the encoder's layers for one sequence.

    Args:
        read: places of the last layer that anyone reads, None for all; the others need their keys and
            values alone.
    """
    width = config.hidden_size
    linear = 4 * width * width + 2 * width * config.intermediate_size
    attention = 2 * width * length  # scores, then the weighted sum of values
    whole = config.num_hidden_layers * length * (linear + attention)
    if read is None:
        return whole
    keys_and_values = 2 * width * width
    return whole - (length - read) * (linear - keys_and_values + attention)


def classifier_macs(config: BertConfig, length: float, training: bool = False) -> float:
    """Multiply-accumulates of a classifier for one sequence: encoder, pooler, head.

    In training the last layer is computed whole, otherwise for the pooler's place alone.
    """
    width = config.hidden_size
    layers = encoder_macs(config, length, None if training else 1)
    return layers + width * (width + config.num_labels)


def masked_word_macs(config: BertConfig, length: float) -> float:
    """Multiply-accumulates of naming one masked word: encoder, and the head, at one place."""
    width = config.hidden_size
    return encoder_macs(config, length, 1) + width * (width + config.vocab_size)


def projection_macs(student: BertConfig, teacher: BertConfig, length: float) -> float:
    """Multiply-accumulates of `fit_dense` on all hidden states of the student, 0 … N."""
    return (student.num_hidden_layers + 1) * length * student.hidden_size * teacher.hidden_size


def layer_step_gflop(student: BertConfig, teacher: BertConfig, lengths: Iterable[float]) -> float:
    """GFLOP of a step that distils the layers: teacher forward; student forward and backward."""
    macs = sum(
        encoder_macs(teacher, n)
        + 3 * (encoder_macs(student, n) + projection_macs(student, teacher, n))
        for n in lengths
    )
    return 2e-9 * macs


def word_step_gflop(
    student: BertConfig, teacher: BertConfig, lengths: Iterable[float], counted: float | None = None
) -> float:
    """GFLOP of a step of DistilBERT's pre-training: teacher forward; student forward and backward.

    Args:
        counted: share of the tokens whose scores over the vocabulary are computed; None for all.
    """
    share = 1.0 if counted is None else counted
    macs = 0.0
    for length in lengths:
        for config, passes in ((teacher, 1), (student, 3)):
            head = config.hidden_size * (config.hidden_size + config.vocab_size)
            macs += passes * (encoder_macs(config, length) + share * length * head)
    return 2e-9 * macs


def prediction_gflop(
    student: BertConfig, teacher: BertConfig, lengths: Iterable[float], epochs: int
) -> float:
    """GFLOP of distilling the predictions: the teacher once, the student in every epoch."""
    macs = sum(
        classifier_macs(teacher, n) + 3 * epochs * classifier_macs(student, n, training=True)
        for n in lengths
    )
    return 2e-9 * macs


def encoder_parameters(config: BertConfig) -> int:
    """Parameters of embeddings, layers and pooler."""
    width, inner = config.hidden_size, config.intermediate_size
    norm = 2 * width
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    attention = 4 * (width * width + width) + norm
    feed_forward = width * inner + inner + inner * width + width + norm
    pooler = width * width + width
    return rows * width + norm + config.num_hidden_layers * (attention + feed_forward) + pooler

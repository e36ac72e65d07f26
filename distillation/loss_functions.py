"""From a batch to named losses: what the training loop is handed.

A batch holds the model's inputs (input_ids, token_type_ids, attention_mask, int64 [B, L] each) and, for
a classifier, labels (int64 or float32 [B]).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.global_batches import Batch
from distillation.mapping import LayerMapping
from distillation.objectives import (
    LayerWeights,
    Losses,
    attention_losses,
    hidden_losses,
    label_loss,
    layer_losses,
    logit_mse,
    soft_cross_entropy,
)
from distillation.training import LossFunction
from transformer.encoder import EncoderOutput

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def layer_distillation(
    teacher: Callable[..., EncoderOutput],
    mapping: LayerMapping,
    weights: LayerWeights,
    compiled: bool = False,
    **student_options,
) -> LossFunction:
    """Match attention scores, embedding output and hidden states of the mapped layers.

    Args:
        teacher: frozen; only the layers the mapping names are collected.
        compiled: whether the losses of layer pairs go through torch.compile.
        student_options: passed to the student's forward, such as `is_student=True`.
    """
    attention = mapping.attention if weights.attention else ()
    hidden = mapping.hidden[:1] if weights.embedding else ()
    hidden += mapping.hidden[1:] if weights.hidden else ()
    layers_of = [
        {
            "attention_layers": [p[side] for p in attention],
            "hidden_layers": [p[side] for p in hidden],
        }
        for side in (0, 1)
    ]

    of_pairs = []
    if compiled:
        of_pairs = [torch.compile(of, dynamic=True) for of in (attention_losses, hidden_losses)]

    def losses(student: nn.Module, batch: Batch) -> Losses:
        inputs = _inputs(batch)
        with torch.no_grad():
            target = teacher(**inputs, **layers_of[1])
        output = student(**inputs, **layers_of[0], **student_options)
        return layer_losses(output, target, weights, *of_pairs)

    return losses


def prediction_distillation(
    teacher: nn.Module, regression: bool, temperature: float = 1.0, reduction: str = "mean"
) -> LossFunction:
    """Match the teacher's logits: soft cross-entropy, or MSE for a regression task.

    A batch may bring them as `teacher_logits`, float32 [B, C]; else the teacher is asked.
    """

    def losses(student: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = _logits(student, batch)
        target = batch.get("teacher_logits")
        if target is None:
            with torch.no_grad():
                target = _logits(teacher, batch)
        if regression:
            return {"prediction_loss": logit_mse(logits, target)}
        loss = soft_cross_entropy(logits, target, temperature, reduction)
        return {"prediction_loss": loss}

    return losses


def label_training(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Learn from the labels alone."""
    return {"label_loss": label_loss(_logits(model, batch), batch["labels"])}


def masked_language_modelling(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Name the hidden tokens (BERT, section 3.1); the batch is one of `MaskedBatches`."""
    logits = model(
        **_inputs(batch), masked_positions=(batch["masked_rows"], batch["masked_columns"])
    )
    labels = batch["masked_labels"]
    total = F.cross_entropy(logits.float(), labels, reduction="sum")
    return {"mlm_loss": total / max(len(labels), 1)}  # a batch may hold no word at all


def _inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in _INPUTS}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(**_inputs(batch), attention_layers=(), hidden_layers=()).output

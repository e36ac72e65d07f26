"""The losses of TinyBERT section 3.1 ("Transformer Distillation"): pure functions of tensors.

Every loss is computed in fp32 whatever the precision of the forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from files.errors import UserError
from transformer.configuration import BertConfig
from transformer.encoder import EncoderOutput

PairLosses = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]

PADDING_THRESHOLD = -100.0  # scores at or below it belong to masked positions (mask = -10000)


class Losses(dict[str, Tensor]):
    """Scalars by name, to be added up and minimised.

    Attributes:
        by_layer: what those that are sums over layer pairs are sums of, [layers] each, for the log.
    """

    def __init__(self, losses: Mapping[str, Tensor], by_layer: Mapping[str, Tensor]) -> None:
        super().__init__(losses)
        self.by_layer = dict(by_layer)


def attention_losses(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    """Attention-based distillation: MSE(A^S, A^T) of each layer pair; the mean over heads is part of it.

    Args:
        student, teacher: attention scores before the softmax, mask added, [B, A, L, L] each; the i-th
            entries of the two sequences are compared.

    Masked entries are set to 0 on both sides, as in the published code, and count in the mean over all
    B · A · L · L entries.

    Returns:
        Scalars.
    """
    if torch.compiler.is_compiling():  # torch then makes one pass of the formula itself
        return [
            F.mse_loss(_without_mask(s.float()), _without_mask(t.float()))
            for s, t in zip(student, teacher, strict=True)
        ]
    return [
        _MaskedMSE.apply(student_scores, teacher_scores)
        for student_scores, teacher_scores in zip(student, teacher, strict=True)
    ]


class _MaskedMSE(torch.autograd.Function):
    """mse(without_mask(student), without_mask(teacher)), where without_mask sets scores ≤ -100 to 0.

    Written out, because the plain formula writes half a dozen tensors of [B, A, L, L] to memory, one
    after the other. On a CPU each row of the batch is worked on while it is in the cache. Kept for the
    gradient is the difference where the student is not masked; the gradient is 2/n of it.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape != teacher.shape:
            raise ValueError(f"scores of shapes {[*student.shape]} and {[*teacher.shape]}")
        dtype = torch.promote_types(student.dtype, torch.float32)
        kept = torch.empty_like(student, dtype=dtype)
        squares = []
        for s, t, difference in _blocks(student, teacher, kept):
            s = s.to(dtype)
            torch.sub(_without_mask(s), _without_mask(t.to(dtype)), out=difference)
            squares.append(torch.linalg.vector_norm(difference).square())
            difference *= s > PADDING_THRESHOLD
        ctx.save_for_backward(kept)
        ctx.dtype = student.dtype
        return torch.stack(squares).sum() / student.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        gradient = torch.empty_like(kept, dtype=ctx.dtype)
        factor = grad * (2 / kept.numel())
        for block, difference in _blocks(gradient, kept):
            block.copy_(difference * factor)
        return gradient, None


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Row by row on a CPU, all at once on a GPU."""
    return zip(*tensors, strict=True) if tensors[0].device.type == "cpu" else iter([tensors])


def _without_mask(scores: Tensor) -> Tensor:
    return F.threshold(scores, PADDING_THRESHOLD, 0.0)


def hidden_losses(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    """Hidden-states-based distillation: MSE(H^S · W_h, H^T) of each layer pair.

    Embedding-layer distillation, MSE(E^S · W_e, E^T), is the pair of embedding outputs.

    Args:
        student: hidden states already mapped to the teacher's width by `fit_dense`, [B, L, H_T] each.
        teacher: hidden states, [B, L, H_T] each.
    """
    return [F.mse_loss(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """Prediction-layer distillation: -softmax(z^T / t) · log_softmax(z^S / t).

    Args:
        student_logits, teacher_logits: [B, C].
        reduction: `"mean"` over batch and classes, as published (1/C times the cross-entropy);
            `"batchmean"` over the batch alone, the cross-entropy itself.
    """
    targets = F.softmax(teacher_logits.float() / temperature, dim=-1)
    products = -targets * F.log_softmax(student_logits.float() / temperature, dim=-1)
    return products.mean() if reduction == "mean" else products.sum(dim=-1).mean()


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """MSE between logits: the prediction loss of a regression task (STS-B), both [B, 1]."""
    return F.mse_loss(student_logits.float(), teacher_logits.float())


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with class ids (int64 [B]), or MSE with scores (float32 [B]): training on labels."""
    if labels.is_floating_point():
        return F.mse_loss(logits.float().squeeze(-1), labels)
    return F.cross_entropy(logits.float(), labels)


def _sum(losses) -> Tensor:
    total: Tensor | float = 0.0
    for loss in losses:
        total = total + loss
    return torch.as_tensor(total)


class LayerWeights(NamedTuple):
    """Weights of the attention, hidden-state and embedding losses; 0: not computed."""

    attention: float = 1.0
    hidden: float = 1.0
    embedding: float = 1.0


def layer_losses(
    student: EncoderOutput,
    teacher: EncoderOutput,
    weights: LayerWeights,
    of_attention: PairLosses | None = None,
    of_hidden: PairLosses | None = None,
) -> Losses:
    """The intermediate loss: attention and hidden-state losses, weighted, by name.

    Args:
        student, teacher: outputs holding the matched layers in the same order; of the hidden states the
            embedding output comes first, and is left out where its weight is 0.
        of_attention, of_hidden: in the place of `attention_losses` and `hidden_losses`: the same, compiled.
    """
    parts: dict[str, list[Tensor]] = {}
    if weights.attention:
        losses = (of_attention or attention_losses)(student.attentions, teacher.attentions)
        parts["attention_loss"] = [_times(weights.attention, loss) for loss in losses]
    if weights.hidden or weights.embedding:
        losses = (of_hidden or hidden_losses)(student.hidden_states, teacher.hidden_states)
        factors = [weights.embedding] if weights.embedding else []
        factors += [weights.hidden] * (len(losses) - len(factors))
        parts["hidden_loss"] = [_times(w, loss) for w, loss in zip(factors, losses, strict=True)]
    return Losses(
        {name: _sum(losses) for name, losses in parts.items()},
        {name: torch.stack(losses).detach() for name, losses in parts.items()},
    )


def _times(weight: float, loss: Tensor) -> Tensor:
    return loss if weight == 1 else weight * loss


def check_heads(student: BertConfig, teacher: BertConfig, weights: LayerWeights) -> None:
    """Refuse an attention loss between models of different head counts.

    Raises:
        UserError: it names both counts; or nothing is left to learn.
    """
    flags = dict(zip(("--att_weight", "--rep_weight", "--emb_weight"), weights, strict=True))
    for flag, weight in flags.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"{flag} {weight}: expected a number from 0")
    if not any(weights):
        raise UserError(f"{', '.join(flags)} are all 0: nothing would be learned")
    if weights.attention and student.num_attention_heads != teacher.num_attention_heads:
        raise UserError(
            f"the student has {student.num_attention_heads} attention heads, the teacher "
            f"{teacher.num_attention_heads}: their attention cannot be matched head by head; give both "
            f"the same number, or leave that loss out with --att_weight 0"
        )

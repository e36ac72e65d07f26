"""Attention based distillation (TinyBERT, section 3.1): MSE of attention scores before the softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from distillation.objective import Objective, Setup
from files.errors import UserError
from transformer.encoder import Collect, EncoderOutput

PADDING_THRESHOLD = -100.0  # scores at or below it belong to masked positions (mask = -10000)


def attention_losses(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None
) -> list[Tensor]:
    """Attention-based distillation: MSE(A^S, A^T) of each layer pair; the mean over heads is part of it.

    Args:
        student, teacher: attention scores before the softmax, mask added, [B, A, L, L] each; the i-th
            entries of the two sequences are compared. Or probabilities, which are 0 where masked.
        mask: [B, L], 1 for tokens: what tokens give tokens counts alone; None counts everything.

    Masked entries are set to 0 on both sides, as in the published code, and count in the mean over all
    B · A · L · L entries unless there is a mask.

    Returns:
        Scalars.
    """
    if torch.compiler.is_compiling() and mask is None:  # torch makes one pass of the formula itself
        return [
            F.mse_loss(_without_mask(s.float()), _without_mask(t.float()))
            for s, t in zip(student, teacher, strict=True)
        ]
    return [
        _MaskedMSE.apply(student_scores, teacher_scores, mask)
        for student_scores, teacher_scores in zip(student, teacher, strict=True)
    ]


class _MaskedMSE(torch.autograd.Function):
    """mse(without_mask(student), without_mask(teacher)), where without_mask sets scores ≤ -100 to 0.

    Written out, because the plain formula writes half a dozen tensors of [B, A, L, L] to memory, one
    after the other. On a CPU each row of the batch is worked on while it is in the cache. Kept for the
    gradient is the difference where the student is not masked; the gradient is 2/n of it.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        if student.shape != teacher.shape:
            raise ValueError(f"scores of shapes {[*student.shape]} and {[*teacher.shape]}")
        dtype = torch.promote_types(student.dtype, torch.float32)
        kept = torch.empty_like(student, dtype=dtype)
        squares = []
        asking = torch.ones_like(student[:, 0, :, 0]) if mask is None else mask
        for s, t, difference, rows in _blocks(student, teacher, kept, asking):
            s = s.to(dtype)
            torch.sub(_without_mask(s), _without_mask(t.to(dtype)), out=difference)
            if mask is not None:
                difference *= rows.to(dtype)[..., None, :, None]
            squares.append(torch.linalg.vector_norm(difference).square())
            difference *= s > PADDING_THRESHOLD
        ctx.save_for_backward(kept)
        ctx.dtype, ctx.count = student.dtype, student.numel()
        if mask is not None:
            ctx.count = student.shape[1] * mask.sum(1).to(dtype).square().sum()
        return torch.stack(squares).sum() / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        gradient = torch.empty_like(kept, dtype=ctx.dtype)
        factor = grad * (2 / ctx.count)
        for block, difference in _blocks(gradient, kept):
            block.copy_(difference * factor)
        return gradient, None, None


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Row by row on a CPU, all at once on a GPU."""
    return zip(*tensors, strict=True) if tensors[0].device.type == "cpu" else iter([tensors])


def _without_mask(scores: Tensor) -> Tensor:
    return F.threshold(scores, PADDING_THRESHOLD, 0.0)


def attention_cosines(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None
) -> list[Tensor]:
    """1 - cos(A^S, A^T) over what each query attends to, mean over queries, heads and the batch.

    Arguments as for `attention_losses`.
    """
    losses = []
    for s, t in zip(student, teacher, strict=True):
        cosines = F.cosine_similarity(_without_mask(s.float()), _without_mask(t.float()), dim=-1)
        if mask is not None:
            cosines = cosines.transpose(1, 2)[mask.bool()]  # [tokens, A]
        losses.append(1 - cosines.mean())
    return losses


class AttentionMSE(Objective):
    """The mapped layers' attention scores; teacher and student have as many heads."""

    log_name, by_layer = "attention_loss", True
    kind, formula = "scores", staticmethod(attention_losses)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.student and setup.student.num_attention_heads != setup.teacher.num_attention_heads:
            raise UserError(
                f"the student has {setup.student.num_attention_heads} attention heads, the teacher "
                f"{setup.teacher.num_attention_heads}: their attention cannot be matched head by head; "
                "give both the same number, or leave that loss out"
            )
        self.pairs = setup.mapping.attention
        self.count_padding = setup.count_padding
        compiled = torch.compile(self.formula, dynamic=True) if setup.compiled else None
        self.losses = compiled or self.formula

    def needs(self, side: str) -> Collect:
        return Collect(**{self.kind: tuple(pair[side == "teacher"] for pair in self.pairs)})

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        mask = None if self.count_padding else batch["attention_mask"]
        return self.losses(getattr(student, self.kind), getattr(teacher, self.kind), mask)


class AttentionProbsMSE(AttentionMSE):
    """The same of probabilities, after the softmax and before dropout."""

    kind = "probs"


class AttentionCosine(AttentionMSE):
    """The cosine of attention scores, masked ones left out."""

    formula = staticmethod(attention_cosines)


class AttentionProbsCosine(AttentionCosine):
    """The same of probabilities, after the softmax and before dropout."""

    kind = "probs"

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


class AttentionMSE(Objective):
    """The mapped layers' attention scores; teacher and student have as many heads."""

    log_name, by_layer = "attention_loss", True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.student and setup.student.num_attention_heads != setup.teacher.num_attention_heads:
            raise UserError(
                f"the student has {setup.student.num_attention_heads} attention heads, the teacher "
                f"{setup.teacher.num_attention_heads}: their attention cannot be matched head by head; "
                "give both the same number, or leave that loss out"
            )
        self.pairs = setup.mapping.attention
        compiled = torch.compile(attention_losses, dynamic=True) if setup.compiled else None
        self.losses = compiled or attention_losses

    def needs(self, side: str) -> Collect:
        return Collect(scores=tuple(pair[side == "teacher"] for pair in self.pairs))

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return self.losses(student.scores, teacher.scores)

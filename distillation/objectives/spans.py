"""Answers that are spans of a text: two distributions over its positions, of the first and the last token.

Shapes: B windows in the batch, L positions. Padding takes no part, unless it is to count as in the original.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distillation.objective import Objective, Setup
from transformer.encoder import EncoderOutput
from transformer.lengths import MASKED_SCORE


def span_log_probs(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """log softmax over positions of scores [B, L, 2]: [B, 2, L], of padding about -10,000.

    Args:
        mask: [B, L], 1 for tokens; None counts padding.
    """
    scores = scores.float().transpose(1, 2)
    if mask is not None:
        scores = scores.masked_fill(~mask.bool()[:, None], MASKED_SCORE)
    return F.log_softmax(scores, -1)


def span_loss(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """(CE(start) + CE(end)) / 2, mean over the batch; `labels` are positions, int64 [B, 2]."""
    return F.nll_loss(span_log_probs(scores, mask).flatten(0, 1), labels.flatten())


def span_soft_cross_entropy(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """-softmax(z^T / t) · log_softmax(z^S / t), mean over start and end and over the batch."""
    targets = span_log_probs(teacher / temperature, mask).exp()
    return -(targets * span_log_probs(student / temperature, mask)).sum(-1).mean()


class SpanLabels(Objective):
    """Where the answer is; a batch's `labels` are positions."""

    log_name, reads = "label_loss", ("student",)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.count_padding = setup.count_padding

    def mask(self, batch: dict[str, Tensor]) -> Tensor | None:
        """What counts."""
        return None if self.count_padding else batch["attention_mask"]

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return [span_loss(student.output, batch["labels"], self.mask(batch))]


class SpanSoftCrossEntropy(SpanLabels):
    """The teacher's two distributions; a batch may bring its scores as `teacher_logits`, [B, L, 2]."""

    log_name, reads = "prediction_loss", ("student", "teacher")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.temperature = setup.temperature

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        both = student.output, teacher.output
        return [span_soft_cross_entropy(*both, self.mask(batch), self.temperature)]

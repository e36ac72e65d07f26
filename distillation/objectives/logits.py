"""Prediction-layer distillation (TinyBERT, section 3.1), and training on labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distillation.objective import Objective, Setup
from transformer.encoder import EncoderOutput


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


class SoftCrossEntropy(Objective):
    """The teacher's soft targets; a batch may bring its logits as `teacher_logits`, float32 [B, C]."""

    log_name, reads = "prediction_loss", ("student", "teacher")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.options = setup.temperature, setup.reduction

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return [soft_cross_entropy(student.output, teacher.output, *self.options)]


class SoftTargets(Objective):
    """T² · KL(softmax(z^T / T) ‖ softmax(z^S / T)), mean over the batch (Hinton et al., 2015)."""

    log_name, reads = "soft_loss", ("student", "teacher")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.temperature = setup.temperature

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        ours, theirs = (
            F.log_softmax(side.output.float() / self.temperature, -1) for side in (student, teacher)
        )
        divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return [self.temperature**2 * divergence]


class LogitMSE(Objective):
    """The teacher's score: the prediction loss of a regression task."""

    log_name, reads = "prediction_loss", ("student", "teacher")

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return [logit_mse(student.output, teacher.output)]


class Labels(Objective):
    """The labels of the task."""

    log_name, reads = "label_loss", ("student",)

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return [label_loss(student.output, batch["labels"])]


class MaskedWords(Objective):
    """Masked language modelling (BERT, section 3.1): name the hidden tokens of a `MaskedBatches` batch."""

    log_name, reads = "mlm_loss", ("student",)

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        labels = batch["masked_labels"]
        total = F.cross_entropy(student.output.float(), labels, reduction="sum")
        return [total / max(len(labels), 1)]  # a batch may hold no masked token at all

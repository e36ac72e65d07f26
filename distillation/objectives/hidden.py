"""Hidden states based and embedding-layer distillation (TinyBERT, section 3.1): MSE of hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.objective import Objective, Setup
from transformer.encoder import Collect, EncoderOutput


def hidden_losses(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    """Hidden-states-based distillation: MSE(H^S · W_h, H^T) of each layer pair.

    Embedding-layer distillation, MSE(E^S · W_e, E^T), is the pair of embedding outputs.

    Args:
        student: hidden states already mapped to the teacher's width by `fit_dense`, [B, L, H_T] each.
        teacher: hidden states, [B, L, H_T] each.
    """
    return [F.mse_loss(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]


class HiddenMSE(Objective):
    """The mapped layers' hidden states, the student's sent through `fit_dense`."""

    log_name, by_layer = "hidden_loss", True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.pairs = self.of(setup.mapping.hidden)
        compiled = torch.compile(hidden_losses, dynamic=True) if setup.compiled else None
        self.losses = compiled or hidden_losses

    @staticmethod
    def of(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Those of all pairs of hidden states, embedding outputs first, that are compared."""
        return pairs[1:]

    def needs(self, side: str) -> Collect:
        return Collect(hidden=tuple(pair[side == "teacher"] for pair in self.pairs))

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        return self.losses(student.hidden, teacher.hidden)


class FirstCosine(Objective):
    """1 - cos of the last hidden states of the first token, mean over the batch.

    Where the student is narrower than its teacher, and is not mapped to its width elsewhere, its state goes
    through a projection that is learned here.
    """

    log_name = "cos_loss"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        configs = setup.student, setup.teacher
        self.last = {
            side: config.num_hidden_layers
            for side, config in zip(("student", "teacher"), configs, strict=True)
        }
        widths = [config.hidden_size for config in configs]
        self.projection = nn.Identity()
        if widths[0] != widths[1] and setup.mapping is None:
            self.projection = nn.Linear(*widths, bias=False)
            nn.init.normal_(self.projection.weight, std=setup.student.initializer_range)

    def needs(self, side: str) -> Collect:
        return Collect(hidden=(self.last[side],))

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        ours, theirs = (side.hidden[0][:, 0].float() for side in (student, teacher))
        return [1 - F.cosine_similarity(self.projection(ours), theirs, dim=-1).mean()]


class EmbeddingMSE(HiddenMSE):
    """The embedding outputs alone."""

    @staticmethod
    def of(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return pairs[:1]

"""Hidden states based and embedding-layer distillation (TinyBERT, section 3.1): MSE of hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.objective import Objective, Setup
from transformer.encoder import Collect, EncoderOutput


def hidden_losses(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None
) -> list[Tensor]:
    """Hidden-states-based distillation: MSE(H^S · W_h, H^T) of each layer pair.

    Embedding-layer distillation, MSE(E^S · W_e, E^T), is the pair of embedding outputs.

    Args:
        student: hidden states already mapped to the teacher's width by `fit_dense`, [B, L, H_T] each.
        teacher: hidden states, [B, L, H_T] each.
        mask: [B, L], 1 for the tokens that count; None counts padding as well.
    """
    return [F.mse_loss(s, t) for s, t in _counted(student, teacher, mask)]


def hidden_cosines(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None
) -> list[Tensor]:
    """1 - cos(H^S · W_h, H^T) of each layer pair, mean over tokens; arguments as for `hidden_losses`."""
    return [
        1 - F.cosine_similarity(s, t, dim=-1).mean() for s, t in _counted(student, teacher, mask)
    ]


def _counted(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs in float32, of the tokens that count."""
    for s, t in zip(student, teacher, strict=True):
        if mask is not None:
            s, t = s[mask.bool()], t[mask.bool()]
        yield s.float(), t.float()


class HiddenMSE(Objective):
    """The mapped layers' hidden states, the student's sent through `fit_dense`."""

    log_name, by_layer = "hidden_loss", True
    formula = staticmethod(hidden_losses)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.pairs = self.of(setup.mapping.hidden)
        self.count_padding = setup.count_padding
        compiled = torch.compile(self.formula, dynamic=True) if setup.compiled else None
        self.losses = compiled or self.formula

    @staticmethod
    def of(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Those of all pairs of hidden states, embedding outputs first, that are compared."""
        return pairs[1:]

    def needs(self, side: str) -> Collect:
        return Collect(hidden=tuple(pair[side == "teacher"] for pair in self.pairs))

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, batch) -> list[Tensor]:
        mask = None if self.count_padding else batch["attention_mask"]
        return self.losses(student.hidden, teacher.hidden, mask)


class HiddenCosine(HiddenMSE):
    """The cosine of the mapped layers' hidden states."""

    formula = staticmethod(hidden_cosines)


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


class EmbeddingCosine(HiddenCosine):
    """The cosine of the embedding outputs alone."""

    of = staticmethod(EmbeddingMSE.of)

"""Distillation of masked language modelling (DistilBERT, section 3): soft targets, masked words, cosine.

The vocabulary is hundreds of times as wide as a hidden state. Scores over it are computed for the positions
that count alone, some at a time, and their gradient with them: no two [N, V] tensors are held at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.objective import Objective, Setup
from transformer.encoder import Collect, EncoderOutput
from transformer.heads import WordStates

CHUNK = 1 << 22  # scores at once


class Triple(NamedTuple):
    """What the three losses are taken of, and what each of them weighs.

    Attributes:
        alpha_ce, alpha_mlm, alpha_cos: weights of soft targets, masked words, and cosine.
        temperature: T of the soft targets.
        pairs: (student's, teacher's) hidden states that the cosine compares; 0 are the embeddings.
        per_sequence: the soft targets' loss is divided by sequences instead of positions.
    """

    alpha_ce: float
    alpha_mlm: float
    alpha_cos: float
    temperature: float
    pairs: tuple[tuple[int, int], ...]
    per_sequence: bool = False


class TripleLoss(Objective):
    """alpha_ce · L_ce + alpha_mlm · L_mlm + alpha_cos · L_cos over the positions that a batch counts.

        L_ce  = T² · mean over positions of KL(softmax(t / T) ‖ softmax(s / T)), s and t the logits [N, V]
        L_mlm = mean over masked positions of -log softmax(s)[y], y what stood there
        L_cos = mean over positions, and over pairs of hidden states, of 1 - cos(h^S, h^T)

    A batch brings counted_rows and counted_columns (int64 [N], the positions, the masked ones first) and
    masked_labels (int64 [K]); a part of a global batch also counted_total and masked_total, the N and K of
    the whole. Where the student is narrower than its teacher, its hidden states
    go through a projection that is learned here.
    """

    def __init__(self, setup: Setup, triple: Triple) -> None:
        super().__init__(setup)
        self.triple = triple
        self.reads = ("student", "teacher") if triple.alpha_ce else ("student",)
        self.fixed = False  # the number of masked positions differs from batch to batch
        widths = [config.hidden_size for config in (setup.student, setup.teacher)]
        self.projection = nn.Identity()
        if triple.alpha_cos and widths[0] != widths[1]:
            self.projection = nn.Linear(*widths, bias=False)
            nn.init.normal_(self.projection.weight, std=setup.student.initializer_range)

    def needs(self, side: str) -> Collect:
        layers = dict.fromkeys(pair[side == "teacher"] for pair in self.triple.pairs)
        return Collect(hidden=tuple(layers) if self.triple.alpha_cos else ())

    def forward(
        self, student: EncoderOutput, teacher: EncoderOutput, batch: Mapping[str, Tensor]
    ) -> dict[str, Sequence[Tensor]]:
        triple, terms = self.triple, {}
        if triple.alpha_ce or triple.alpha_mlm:
            terms |= self.of_words(student, teacher, batch)
        if triple.alpha_cos:
            terms["cos_loss"] = [triple.alpha_cos * self.cosine(student, teacher, batch)]
        return terms

    def of_words(
        self, student: EncoderOutput, teacher: EncoderOutput, batch: Mapping[str, Tensor]
    ) -> dict[str, Sequence[Tensor]]:
        """L_ce and L_mlm, weighted."""
        triple, counted = self.triple, len(batch["counted_rows"])
        masked = len(batch["masked_labels"])
        if "masked_total" in batch:  # of which this part is as much as it counts
            masked = batch["masked_total"] * counted / batch["counted_total"]
        divisor = len(batch["input_ids"]) if triple.per_sequence else counted
        total, soft, _ = vocabulary_loss(
            student.output,
            teacher.output if triple.alpha_ce else None,
            batch["masked_labels"],
            triple.temperature,
            triple.alpha_ce / divisor,
            triple.alpha_mlm / max(masked, 1e-6),
        )
        if not triple.alpha_mlm:
            return {"ce_loss": [total]}
        # The gradient is the total's; the number beside it has none.
        both = {"ce_loss": [soft]} if triple.alpha_ce else {}
        return both | {"mlm_loss": [total - soft]}

    def cosine(
        self, student: EncoderOutput, teacher: EncoderOutput, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """L_cos."""
        places = batch["counted_rows"], batch["counted_columns"]
        ours, theirs = (
            dict(zip(self.needs(side).hidden, out.hidden, strict=True))
            for side, out in (("student", student), ("teacher", teacher))
        )
        cosines = []
        for i, j in self.triple.pairs:
            states = self.projection(ours[i][places]), theirs[j][places]  # [N, H]
            cosines.append(F.cosine_similarity(*(state.float() for state in states), dim=-1))
        return 1 - torch.stack(cosines).mean()


def vocabulary_loss(
    student: WordStates,
    teacher: WordStates | None,
    labels: Tensor,
    temperature: float,
    soft_weight: float,
    masked_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft targets and masked words of scores that are computed some rows at a time.

    Args:
        student: of N positions; what its three tensors need gets their gradients.
        teacher: of the same, its width may be another; None where there are no soft targets.
        labels: int64 [K], what stood at the first K positions, which are masked.
        soft_weight: of the sum over positions of T² · KL(teacher ‖ student).
        masked_weight: of the sum over masked positions of the cross-entropy.

    Returns:
        The weighted sum of both, and each weighted, scalars; the gradient is the first one's.
    """
    target = (None, None, None) if teacher is None else teacher
    return _VocabularyLoss.apply(
        *student, *target, labels, temperature, soft_weight, masked_weight,
        torch.is_grad_enabled(),
    )  # fmt: skip


class _VocabularyLoss(torch.autograd.Function):
    """Gradients are computed beside the losses, while a chunk's scores are at hand.

    Scores of C positions are held as [V, C]: a CPU multiplies the vocabulary's matrix by the states' in two
    thirds of the time that the other order takes.
    """

    @staticmethod
    def forward(
        ctx, states, weight, bias, t_states, t_weight, t_bias, labels, temperature,
        soft_weight, masked_weight, learns,
    ):  # fmt: skip
        size = min(max(1, CHUNK // len(weight)), max(len(states), 1))
        learns = learns and any(ctx.needs_input_grad)
        gradients = _Gradients(states, weight, bias) if learns else None
        soft, words = torch.zeros(2, device=states.device)
        # One after another's: fresh memory of this size costs a CPU as much as the arithmetic on it.
        room = torch.empty((3, size * len(weight)), device=states.device)
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            places = len(weight), len(states[part])
            scores, target, apart = (own[: places[0] * places[1]].view(places) for own in room)
            _scores(states[part], weight, bias, scores)
            answers, gradient, of_words = labels[part], None, None
            if masked_weight and len(answers):
                own = scores[:, : len(answers)].clone(memory_format=torch.contiguous_format)
                loss, of_words = _masked(own, answers)
                words += masked_weight * loss
            if t_states is not None and soft_weight:
                _scores(t_states[part], t_weight, t_bias, target)
                loss, gradient = _soft(scores, target, apart, temperature)
                soft += soft_weight * temperature**2 * loss
                gradient *= soft_weight * temperature  # T² · KL has 1 / T inside
            if learns and of_words is not None:
                if gradient is None:
                    gradient = scores.zero_()
                gradient[:, : len(answers)].add_(of_words, alpha=masked_weight)
            if learns and gradient is not None:
                gradients.add(part, gradient)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(soft, words)
        return soft + words, soft, words

    @staticmethod
    def backward(ctx, of_total, *_):
        states, weight, bias = ctx.gradients.scaled(of_total)
        ctx.gradients = None
        return states, weight, bias, *[None] * 8


def _scores(states: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write the scores [V, C] of C positions, float32."""
    if torch.is_autocast_enabled(states.device.type):
        out.copy_(torch.mm(weight, states.t()))
    else:
        torch.mm(weight, states.t(), out=out)
    out += bias[:, None]


def _masked(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over positions of the cross-entropy, and its gradient, which takes the place of the scores."""
    columns = torch.arange(len(answers), device=answers.device)
    chosen = scores[answers, columns]
    gradient, totals = _softmax(scores)
    gradient[answers, columns] -= 1
    return (totals - chosen).sum(), gradient


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Each column's softmax, in the place of the scores [V, C], and its log Σ exp, [C]."""
    highest = scores.amax(0)
    sums = scores.sub_(highest).exp_().sum(0)
    return scores.div_(sums), highest + sums.log()


def _soft(
    scores: Tensor, target: Tensor, apart: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The sum over positions of KL(softmax(target / T) ‖ softmax(scores / T)), and softmax's difference.

    KL = Σ p · (y - x) + log Σ exp x - log Σ exp y, where x and y are the divided scores and p = softmax(y).
    All three tensors are written over, the difference in the place of the scores.
    """
    torch.sub(target, scores, out=apart).div_(temperature)
    probabilities, their_totals = _softmax(target.div_(temperature))
    own, our_totals = _softmax(scores.div_(temperature))
    loss = apart.mul_(probabilities).sum() + (our_totals - their_totals).sum()
    return loss, own.sub_(probabilities)


class _Gradients:
    """Gradients of states, weight and bias of a projection, from those of some of its rows at a time."""

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.inputs = states, weight
        self.states = torch.zeros_like(states)
        self.weight = torch.zeros_like(weight)
        self.bias = torch.zeros_like(bias)

    def add(self, part: slice, gradient: Tensor) -> None:
        """Take the positions `part` in, whose scores have this gradient [V, C]."""
        states, weight = self.inputs
        self.bias += gradient.sum(1)
        if torch.is_autocast_enabled(gradient.device.type):
            self.states[part] = gradient.t() @ weight
            self.weight += gradient @ states[part]
        else:
            torch.mm(gradient.t(), weight, out=self.states[part])
            self.weight.addmm_(gradient, states[part])

    def scaled(self, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients times a scalar, in their own place: to be asked for once."""
        return self.states.mul_(factor), self.weight.mul_(factor), self.bias.mul_(factor)

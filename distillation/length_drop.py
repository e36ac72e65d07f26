"""LengthDrop (Kim and Cho, 2021): one model that has learned to work with many length configurations.

A step has S + 2 forward passes: the whole model learns from its objectives; then the smallest configuration
and S random ones learn from the whole model's answer (sandwich rule, inplace distillation). Each counts
1 / (S + 2), and gradients are added up. Layers may be left out of the shortened passes (LayerDrop).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.global_batches import Batch
from distillation.objective import Losses, Objectives, Step
from distillation.objectives.spans import span_log_probs
from files.errors import UserError, setting
from transformer.lengths import LEAST, LengthConfig

_PURPOSE = 7  # of the generator that lengths and layers are drawn with


class Sandwich(NamedTuple):
    """What is drawn.

    Attributes:
        layers: of the student.
        bound: share of its tokens that a layer drops at most; the smallest configuration drops it everywhere.
        count: random configurations in a step, S.
        longest: tokens of the longest sequence, where lengths are numbers of tokens; None for shares of each
            sequence's own.
        layer_dropout: probability with which each layer is left out; None for none.
        top_layers: or: leave out up to so many of the top layers.
        drop_everywhere: leave layers out of the whole and the smallest model, too, as the original does.
        reverse: KL(shortened ‖ whole), as the original has it, in place of KL(whole ‖ shortened).
    """

    layers: int
    bound: float = 0.2
    count: int = 2
    longest: int | None = None
    layer_dropout: float | None = None
    top_layers: int = 0
    drop_everywhere: bool = False
    reverse: bool = False

    def check(self) -> None:
        """Refuse numbers out of their range.

        Raises:
            UserError: it names the setting.
        """
        for name, value, fine, expected in (
            ("length_drop_ratio_bound", self.bound, 0 < self.bound < 1, "a number between 0 and 1"),
            ("num_sandwich", self.count, self.count >= 0, "a number from 0"),
            (
                "layer_dropout_prob", self.layer_dropout,
                self.layer_dropout is None or 0 <= self.layer_dropout < 1,
                "a number from 0 up to, not including, 1",
            ),
            (
                "layer_dropout_bound", self.top_layers, 0 <= self.top_layers < self.layers,
                f"a number from 0, below the student's {self.layers} layers",
            ),
        ):  # fmt: skip
            if not fine:
                raise UserError(f"{setting(name)} {value}: expected {expected}")

    def kept_layers(self, generator: torch.Generator) -> tuple[int, ...]:
        """The layers that run; one at least."""
        layers = range(self.layers)
        if self.layer_dropout:
            draws = torch.rand(self.layers, generator=generator)
            kept = tuple(i for i in layers if draws[i] >= self.layer_dropout)
            return kept or (int(draws.argmax()),)
        if self.top_layers:
            left_out = torch.randint(self.top_layers + 1, (), generator=generator)
            return tuple(layers[: self.layers - int(left_out)])
        return tuple(layers)

    def lengths(
        self, layers: tuple[int, ...], generator: torch.Generator | None = None
    ) -> tuple[int | float, ...]:
        """Lengths of every layer: random ones, or without a generator the smallest.

        A layer that does not run repeats the length before it.
        """
        length: int | float = 1.0 if self.longest is None else self.longest
        found = []
        for i in range(self.layers):
            if i in layers:
                least = length * (1 - self.bound)
                if self.longest is not None:
                    least = max(math.ceil(least), LEAST)
                if generator is None:
                    length = least
                elif self.longest is None:
                    length = least + (length - least) * torch.rand((), generator=generator).item()
                else:
                    length = int(torch.randint(least, length + 1, (), generator=generator))
            found.append(length)
        return tuple(found)


class LengthDrop(Objectives):
    """Objectives of a whole model, and inplace distillation of shortened ones."""

    def __init__(self, objectives: Objectives, sandwich: Sandwich, config: LengthConfig) -> None:
        """
        Args:
            objectives: what the whole model learns; they read its output alone.
            config: how tokens are ranked; its lengths are not read.
        """
        super().__init__(list(zip(objectives.parts, objectives.weights, strict=True)))
        sandwich.check()
        self.sandwich, self.config = sandwich, config
        self.fixed = False  # every step has lengths of its own

    def passes(self, student: nn.Module, batch: Batch, step: Step | None) -> Iterator[Losses]:
        sandwich, share = self.sandwich, 1 / (self.sandwich.count + 2)
        generator = (step or Step(0, 0)).generator(_PURPOSE)
        everything = tuple(range(sandwich.layers))
        inputs = self.inputs(batch)
        whole_inputs = dict(inputs)
        if sandwich.drop_everywhere:
            layers = sandwich.kept_layers(generator)
            whole = LengthConfig((1.0,) * sandwich.layers, layers=layers)
            whole_inputs["lengths"] = whole
        whole = self.run(student, whole_inputs)
        losses = self.compare(whole, self.target(inputs, batch), batch)
        yield Losses({name: share * value for name, value in losses.named.items()})
        answer = whole.output.detach()
        for i in range(sandwich.count + 1):
            smallest = i == 0
            layers = everything
            if not smallest or sandwich.drop_everywhere:
                layers = sandwich.kept_layers(generator)
            lengths = sandwich.lengths(layers, None if smallest else generator)
            config = self.config._replace(lengths=lengths, layers=layers)
            output = self.run(student, {**inputs, "lengths": config}).output
            loss = divergence(answer, output, batch["attention_mask"], sandwich.reverse)
            yield Losses({"inplace_loss": share * loss})


def divergence(whole: Tensor, shortened: Tensor, mask: Tensor, reverse: bool = False) -> Tensor:
    """KL(whole ‖ shortened), mean over the batch; of a score the MSE.

    Args:
        whole, shortened: scores of classes [B, C], or of positions [B, L, 2]: then the mean of start and end.
        mask: [B, L], 1 for tokens.
        reverse: KL(shortened ‖ whole).
    """
    if whole.shape[-1] == 1:
        return F.mse_loss(shortened.float(), whole.float())
    if whole.dim() == 3:
        of, to = (span_log_probs(scores, mask) for scores in (whole, shortened))
    else:
        of, to = (F.log_softmax(scores.float(), -1) for scores in (whole, shortened))
    if reverse:
        of, to = to, of
    return (of.exp() * (of - to)).sum(-1).mean()

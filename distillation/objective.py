"""What a student is trained to do: objectives, and several of them with weights.

A batch holds the model's inputs (input_ids, token_type_ids, attention_mask, int64 [B, L] each) and what else
its objectives read, such as labels (int64 or float32 [B]).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from distillation.global_batches import Batch
from distillation.mapping import LayerMapping
from transformer.configuration import BertConfig
from transformer.encoder import Collect, EncoderOutput

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


class Losses(NamedTuple):
    """What one forward pass came to.

    Attributes:
        named: weighted scalars, to be added up and minimised.
        by_layer: for the log, what those that are sums over layer pairs are sums of, [layers] each.
    """

    named: Mapping[str, Tensor]
    by_layer: Mapping[str, Tensor] = {}

    def total(self) -> Tensor:
        """The number that is minimised."""
        return sum(self.named.values())


class Step(NamedTuple):
    """Where a run stands: what an objective may let its work depend on."""

    number: int  # of the optimiser step, from 1
    seed: int

    def generator(self, purpose: int) -> torch.Generator:
        """A generator for this step and purpose: draws depend on nothing else, an interruption included."""
        seed = hash((self.seed, purpose, self.number)) % 2**63
        return torch.Generator().manual_seed(seed)


class Setup(NamedTuple):
    """What an objective may be made for.

    Attributes:
        student, teacher: shapes of the models; the teacher's is None where there is none.
        mapping: which layers are compared.
        temperature, reduction: of soft targets (see `soft_cross_entropy`).
        compiled: whether losses go through torch.compile.
        count_padding: whether means run over padding too, as TinyBERT's published code has it.
    """

    student: BertConfig | None = None
    teacher: BertConfig | None = None
    mapping: LayerMapping | None = None
    temperature: float = 1.0
    reduction: str = "mean"
    compiled: bool = False
    count_padding: bool = True


class Objective(nn.Module):
    """One loss. Parameters and buffers of its own are trained, exchanged, saved and resumed with the student.

    Attributes:
        log_name: the losses of objectives of one name are logged as one sum.
        reads: of which models the output (logits) is read: "student", "teacher".
        by_layer: whether its terms belong to layers, and are logged one by one.
        fixed: whether its work is the same at every step, so that a GPU may record and replay it.
    """

    log_name = "loss"
    reads: tuple[str, ...] = ()
    by_layer = False
    fixed = True

    def __init__(self, setup: Setup) -> None:
        super().__init__()

    def needs(self, side: str) -> Collect:
        """What it reads of the layers of a side, "student" or "teacher"."""
        return Collect()

    def forward(
        self, student: EncoderOutput, teacher: EncoderOutput, batch: Batch
    ) -> Sequence[Tensor] | Mapping[str, Sequence[Tensor]]:
        """Return the terms of the loss, scalars, to be added up; or several losses' by their names.

        Args:
            student, teacher: the outputs that are read, and the layers of `needs`, in its order. In
                distillation of layers the student's hidden states have the teacher's width already.
        """
        raise NotImplementedError  # the class of each objective says what it is


class Objectives(nn.Module):
    """Several objectives with weights, over one forward pass of each model.

    Attributes:
        reads: whether the student's, and the teacher's, output is read by any of them.
    """

    def __init__(self, weighted: Sequence[tuple[Objective, float]]) -> None:
        """
        Args:
            weighted: objectives and their weights; those of weight 0 are left out.
        """
        super().__init__()
        self.parts = nn.ModuleList(part for part, weight in weighted if weight)
        self.weights = [weight for _, weight in weighted if weight]
        self.reads = {side for part in self.parts for side in part.reads}
        self.fixed = all(part.fixed for part in self.parts)
        self.attach(None)
        self._needs = {}
        for side in ("student", "teacher"):
            needs = Collect()
            for part in self.parts:
                needs |= part.needs(side)
            self._needs[side] = needs

    def attach(
        self, teacher: Callable[..., EncoderOutput] | None, **student_options: object
    ) -> Self:
        """Name the teacher, frozen, and what the student's forward takes, such as `is_student=True`."""
        # Beside the modules: a teacher is neither trained nor saved.
        self.__dict__.update(teacher=teacher, student_options=student_options)
        return self

    @property
    def reads_layers(self) -> bool:
        """Whether any of them compares layers."""
        return any(any(needs) for needs in self._needs.values())

    def passes(self, student: nn.Module, batch: Batch, step: Step | None) -> Iterator[Losses]:
        """The forward passes of a step, one after the other; gradients are taken after each."""
        yield self(student, batch)

    def forward(self, student: nn.Module, batch: Batch) -> Losses:
        """Run both models, and compare."""
        inputs = self.inputs(batch)
        return self.compare(self.run(student, inputs), self.target(inputs, batch), batch)

    def inputs(self, batch: Batch) -> dict[str, object]:
        """What of a batch both models are handed."""
        inputs: dict[str, object] = {name: batch[name] for name in _INPUTS}
        if "masked_rows" in batch:
            inputs["masked_positions"] = batch["masked_rows"], batch["masked_columns"]
        if "counted_rows" in batch:
            inputs["masked_positions"] = batch["counted_rows"], batch["counted_columns"]
            inputs["project"] = False
        return inputs

    def target(self, inputs: dict[str, object], batch: Batch) -> EncoderOutput:
        """What is learned from: the teacher's output and layers as far as they are needed."""
        target = EncoderOutput(batch.get("teacher_logits"))
        needs = self._needs["teacher"]
        if any(needs) or ("teacher" in self.reads and target.output is None):
            with torch.no_grad():
                target = self.teacher(**inputs, collect=needs)
        return target

    def run(self, student: nn.Module, inputs: dict[str, object]) -> EncoderOutput:
        """The student's output and layers."""
        return student(**inputs, collect=self._needs["student"], **self.student_options)

    def compare(self, student: EncoderOutput, teacher: EncoderOutput, batch: Batch) -> Losses:
        """The losses of outputs that hold what all objectives need."""
        terms: dict[str, list[Tensor]] = {}
        layered: dict[str, list[Tensor]] = {}
        for part, weight in zip(self.parts, self.weights, strict=True):
            seen = (
                _select(out, self._needs[side], part.needs(side))
                for side, out in (("student", student), ("teacher", teacher))
            )
            found = part(*seen, batch)
            by_name = found if isinstance(found, Mapping) else {part.log_name: found}
            for name, losses in by_name.items():
                weighted = [loss if weight == 1 else weight * loss for loss in losses]
                terms.setdefault(name, []).extend(weighted)
                if part.by_layer:
                    layered.setdefault(name, []).extend(weighted)
        return Losses(
            {name: _sum(losses) for name, losses in terms.items()},
            {name: torch.stack(losses).detach() for name, losses in layered.items()},
        )


def _select(out: EncoderOutput, held: Collect, wanted: Collect) -> EncoderOutput:
    """Of what an output holds, the layers that are wanted."""
    kinds = [
        tuple(values[have.index(layer)] for layer in want)
        for values, have, want in zip(out[1:], held, wanted, strict=True)
    ]
    return EncoderOutput(out.output, *kinds)


def _sum(losses: Sequence[Tensor]) -> Tensor:
    total: Tensor | float = 0.0
    for loss in losses:
        total = total + loss
    return torch.as_tensor(total)

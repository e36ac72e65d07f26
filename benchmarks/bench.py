"""A run of the benchmarks: its device, its sizes, its folder, and how a script is driven and timed."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from benchmarks.figures import Figure
from benchmarks.inputs import Sizes, Workspace
from benchmarks.measure import Ceiling, CeilingSizes, Stopwatch, timed
from distillation import training
from distillation.global_batches import Batch
from transformer.configuration import BertConfig
from transformer.linear import products_by
from transformer.precision import multiplies_bf16


class TimedTraining(NamedTuple):
    """What a training script took: its steps, the ceilings between them, seconds of the reference's steps."""

    watch: Stopwatch
    ceiling: dict[str, float]
    reference: list[float]


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        compare: whether the published figures mean something here: on a CPU, with the full sizes.
    """

    device: torch.device
    sizes: Sizes
    ceiling_sizes: CeilingSizes
    folder: Path
    compare: bool
    work: Workspace
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def create(
        cls, device: torch.device, sizes: Sizes, ceiling: CeilingSizes, folder: Path, compare: bool
    ) -> Bench:
        """A run whose models and data appear in `folder`."""
        return cls(device, sizes, ceiling, folder, compare, Workspace(folder, sizes))

    @property
    def on_cpu(self) -> bool:
        """Whether the work is done by the processor."""
        return self.device.type == "cpu"

    @property
    def configs(self) -> tuple[BertConfig, BertConfig]:
        """Student and teacher."""
        return self.sizes.student, self.sizes.teacher

    @property
    def bf16(self) -> bool:
        """Whether the device has arithmetic for bfloat16; without it nothing is measured in it."""
        return multiplies_bf16(self.device)

    def ceiling(self) -> Ceiling:
        """The machine's ceilings, to be sampled between measurements."""
        return Ceiling(self.device, self.ceiling_sizes)

    def new_folder(self) -> Path:
        """A folder that is not there yet."""
        return self.folder / f"output-{next(self._numbers)}"

    def flags(self, precision: str = "fp32") -> list[str]:
        """What every program is told here."""
        return ["--no_cuda"] * self.on_cpu + ["--bf16"] * (precision == "bf16")

    def figure(self, **values: Any) -> Figure:
        """A figure, without what it would be compared with where that means nothing."""
        if not self.compare:
            if values.get("published_scales", True):
                values["published"] = None
            target = values.get("target")
            if target and (target.against == "floor" or not values.get("published")):
                values["target"] = target if target.against == "limit" else None
        target = values.get("target")
        values["judged"] = not (target and target.library) or target.library == products_by()
        return Figure(**values)

    def run(self, main: Callable[[Sequence[str]], int], arguments: Sequence[Any]) -> None:
        """Run a script's `main` in this process, its output kept back."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main([str(argument) for argument in arguments])

    def train(
        self,
        main: Callable[[Sequence[str]], int],
        arguments: Sequence[Any],
        work: Callable[[Sequence[int]], float],
        reference: Callable[[Batch], object] | None = None,
        every: int = 1,
    ) -> TimedTraining:
        """Run a training script in this process and time its steps.

        Between two steps the ceilings are measured (on a GPU before every `every`-th alone: its steps are
        short and many), and, before every `every`-th, a step of the reference on the same batch.

        Args:
            work: useful GFLOP of a step on rows of the given lengths.
        """
        ceiling, reference_seconds, calls = self.ceiling(), [], itertools.count()

        def between(batch: Batch) -> bool:
            due = next(calls) % every == 0
            if due or self.on_cpu:
                ceiling.sample()
            if due and reference is not None:
                reference_seconds.append(timed(partial(reference, batch), self.device)[0])
            return due or self.on_cpu

        def work_of(batch: Batch) -> float:
            return work(batch["attention_mask"].sum(1).tolist())

        # Twice on a GPU: plainly, then recording.
        watch = Stopwatch(self.device, between, work_of, known=0 if self.on_cpu else 2)
        with mock.patch("distillation.training._step", watch.wrap(training._step)):
            self.run(main, [*arguments, "--output_dir", self.new_folder()])
        # The reference's first step warms up as ours does.
        return TimedTraining(watch, ceiling.rates(), reference_seconds[1:])

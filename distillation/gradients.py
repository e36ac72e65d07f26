"""From batches to gradients: on one process or several, kernel by kernel or recorded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distillation.cuda_graphs import CudaGraphs, Inputs
from distillation.distributed import Runtime
from distillation.global_batches import Batch
from distillation.objective import Losses, Objectives, Step
from transformer.precision import autocast

# Smaller gradients are exchanged in one copy of up to so many elements; larger ones without a copy.
BUCKET_ELEMENTS = 2**19


class Gradients:
    """Computes the losses of batches, and adds their gradients to those of the model's parameters.

    Several processes share the work. `exchange` sums their gradients after the last micro-batch, in place of
    `DistributedDataParallel`, which could not be part of a recording and searches the graph of every step
    for parameters that no loss reads.

    Attributes:
        recorder: what a GPU's work goes through.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Objectives,
        runtime: Runtime,
        scaler: torch.amp.GradScaler,
        precision: str = "fp32",
        recorded: bool = False,
    ) -> None:
        """
        Args:
            model: on `runtime.device` already.
            losses: what is minimised; their own parameters are trained too.
            precision: of the forward passes.
            recorded: whether the work is done in such a way that a GPU can record and replay it.
        """
        recorded = recorded and runtime.device.type == "cuda" and losses.fixed
        self.recorder = CudaGraphs(runtime.device, recorded)
        self.model, self.losses, self.runtime = model, losses, runtime
        self.scaler, self.precision = scaler, precision
        trained = nn.ModuleList([model, losses])
        self.parameters = [p for p in trained.parameters() if p.requires_grad]
        self.step: Step | None = None  # which step the batches are of

    def clear(self) -> None:
        """Begin at nothing."""
        gradients = self._gradients()
        if self.recorder.enabled and gradients:  # a recording knows them by their place
            torch._foreach_zero_(gradients)
        else:
            for p in self.parameters:
                p.grad = None

    def __call__(self, batch: Batch, share: float) -> Losses:
        """Return the losses of a micro-batch, detached.

        Args:
            share: what it counts in the global batch.
        """
        return self.recorder("gradients", self._compute, {**batch, "share": share})

    def exchange(self) -> None:
        """After the last micro-batch: have every process hold the sum of all their gradients.

        A loss may leave parameters out (a mapping of some layers, one loss of the two). Which ones does not
        depend on the rows, and every process has a row, so that all of them leave out the same.
        """
        if self.runtime.world == 1:
            return
        for gradients in _buckets(self._gradients()):
            if len(gradients) == 1 and gradients[0].is_contiguous():
                self.runtime.total(gradients[0])
                continue
            sums = self.runtime.total(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = sums.split([gradient.numel() for gradient in gradients])
            torch._foreach_copy_(
                gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
            )

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def _compute(self, inputs: Inputs) -> Losses:
        batch = dict(inputs)
        share = batch.pop("share")
        named: dict[str, Tensor] = {}
        by_layer: dict[str, Tensor] = {}
        passes = self.losses.passes(self.model, batch, self.step)
        while (losses := self._next(passes)) is not None:
            self.scaler.scale(losses.total() * share).backward()
            for sums, values in ((named, losses.named), (by_layer, losses.by_layer)):
                for name, value in values.items():
                    value = value.detach()
                    sums[name] = sums[name] + value if name in sums else value
        return Losses(named, by_layer)

    def _next(self, passes: Iterator[Losses]) -> Losses | None:
        with autocast(self.precision, self.runtime.device):
            return next(passes, None)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Cut a list where its tensors come to `BUCKET_ELEMENTS`; a larger tensor is a bucket of its own."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket

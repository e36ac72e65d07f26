"""From batches to gradients: on one process or several, kernel by kernel or recorded."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distillation.batches import Batch
from distillation.distributed import Runtime
from distillation.precision import autocast
from distillation.recording import Inputs, Recorder

# (model, batch on the model's device) -> named scalars, to be added up and minimised. A recorded one must
# not wait for the GPU.
LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]


class Gradients:
    """Computes the losses of batches, and adds their gradients to those of the model's parameters.

    Several processes share the work: `DistributedDataParallel` adds their gradients up while they are
    computed, except where steps are recorded, of which it could not be a part; `exchange` does it then.

    Attributes:
        recorder: what a GPU's work goes through.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: LossFunction,
        runtime: Runtime,
        scaler: torch.amp.GradScaler,
        precision: str = "fp32",
        recorded: bool = False,
    ) -> None:
        """
        Args:
            model: on `runtime.device` already.
            losses: see `LossFunction`.
            precision: of the forward passes.
            recorded: whether the work is done in such a way that a GPU can record and replay it.
        """
        self.recorder = Recorder(runtime.device, recorded and runtime.device.type == "cuda")
        self.wrapped = runtime.world > 1 and not recorded
        self.model = _wrap(model, runtime) if self.wrapped else model
        self.losses, self.runtime, self.scaler = losses, runtime, scaler
        self.precision = precision
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def clear(self) -> None:
        """Begin at nothing."""
        gradients = self._gradients()
        if self.recorder.enabled and gradients:  # a recording knows them by their place
            torch._foreach_zero_(gradients)
        else:
            for p in self.parameters:
                p.grad = None

    def __call__(self, batch: Batch, share: float, last: bool = True) -> dict[str, Tensor]:
        """Return the losses of a micro-batch.

        Args:
            share: what it counts in the whole batch.
            last: whether it is the process's last of the step.
        """
        hold = self.model.no_sync() if self.wrapped and not last else contextlib.nullcontext()
        with hold:
            return self.recorder("gradients", self._compute, {**batch, "share": share})

    def exchange(self) -> None:
        """After the last micro-batch: have every process hold the sum of all their gradients."""
        if self.runtime.world > 1 and not self.wrapped:
            gradients = self._gradients()
            sums = self.runtime.total(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = sums.split([gradient.numel() for gradient in gradients])
            torch._foreach_copy_(
                gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
            )

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def _compute(self, inputs: Inputs) -> dict[str, Tensor]:
        batch = dict(inputs)
        share = batch.pop("share")
        with autocast(self.precision, self.runtime.device):
            parts = self.losses(self.model, batch)
        if self.wrapped:  # which averages over the processes
            share = share * self.runtime.world
        self.scaler.scale(sum(parts.values()) * share).backward()
        for name, value in parts.items():
            parts[name] = value.detach()
        return parts


def _wrap(model: nn.Module, runtime: Runtime) -> DistributedDataParallel:
    ids = [runtime.device.index] if runtime.device.type == "cuda" else None
    # A loss may leave layers out (a mapping of some layers, one loss of the two): their gradients are not
    # waited for. Where it leaves none out, that is no news.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

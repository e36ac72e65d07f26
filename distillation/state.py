"""What a run trains, how, and exactly what of it a checkpoint holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime
from distillation.objective import Objectives
from distillation.run_log import RunLog
from files.errors import UserError, setting
from transformer.linear import products_by
from transformer.optimization import OPTIMIZERS, BertAdam
from transformer.processor import processor

# What checkpoints of older versions do not say, because there was only one kind.
UNSAID = {
    "optimizer_name": "bertadam",
    "clip": "tensor",
    "max_grad_norm": 1.0,
    "warmup_steps": None,
    "betas": [0.9, 0.999],
    "epsilon": None,
    "objectives": None,
}
LOG_SUMS = ("sums", "by_layer")  # what each process has added up for the next line of the log


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: passes over the data.
        learning_rate, schedule, warmup_proportion, weight_decay, clip, max_grad_norm: see `BertAdam`.
        warmup_steps: in place of warmup_proportion: steps over which the rate rises.
        betas, epsilon: of the moments; None for the optimiser's own.
        optimizer_name: a key of `OPTIMIZERS`.
        accumulation: micro-steps a batch is computed in.
        precision: `fp32`, `bf16` (forward pass in bfloat16, weights and losses in fp32), or `fp16` (GPU).
        seed: of dropout; rank r of several processes starts from seed + r.
        max_steps: stop after so many optimiser steps; the schedule then ends there as well.
        max_minutes: end the run after the first step that so many minutes of training are over at.
        patience: end the run after so many evaluations in a row without a better score.
        eval_step: evaluate and save every so many optimiser steps.
        save_minutes, save_steps: write a checkpoint to resume from every so many minutes, and every so
            many steps where that is given.
        nan_policy: what to do about a step whose loss or gradient is not finite: `stop` the run, or
            `skip` the step, so that it changes neither weights nor moments.
        compiled: whether the model's layers go through torch.compile.
        recorded: whether steps on a GPU are recorded and replayed (see `CudaGraphs`).
    """

    epochs: int
    learning_rate: float
    schedule: str = "warmup_linear"
    warmup_proportion: float = 0.1
    weight_decay: float = 0.01
    accumulation: int = 1
    precision: str = "fp32"
    seed: int = 42
    max_steps: int | None = None
    max_minutes: float | None = None
    patience: int | None = None
    eval_step: int = 1000
    save_minutes: float = 10.0
    save_steps: int | None = None
    nan_policy: str = "stop"
    compiled: bool = False
    recorded: bool = True
    optimizer_name: str = "bertadam"
    clip: str = "tensor"
    max_grad_norm: float = 1.0
    warmup_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float | None = None


@dataclass
class TrainState:
    """A run: what it trains, and all that has to be saved for it to resume to the same bits.

    Attributes:
        model: what is trained and kept; on `runtime.device` already.
        losses: what is minimised; parameters and buffers of their own are trained and saved too.
        saver: keeps models.
        total: steps of the whole run.
        identity: what tells this run from others besides its settings: data, teacher, flags, each a plain
            value. A checkpoint with others is refused.
        step: optimiser steps done.
        seconds: that training took up to the newest checkpoint.
    """

    model: nn.Module
    losses: Objectives
    saver: ModelSaver
    settings: TrainingSettings
    runtime: Runtime
    total: int
    identity: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        trained = nn.ModuleList([self.model, self.losses])
        self.optimizer = make_optimizer(trained, self.settings, self.total)
        enabled = self.settings.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.runtime.device.type, enabled=enabled)

    def whole_identity(self) -> dict[str, Any]:
        """All that a resumed run must share with the one it resumes."""
        return {"total": self.total, **identity_of(self.settings), **self.identity}

    def save(self, log: RunLog) -> dict[str, Any]:
        """Everything a resumed run needs to continue as if nothing had happened.

        Every process must call it: each has a generator, and a share of the losses not yet logged.
        """
        device = self.runtime.device
        cuda_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        own = log.state_dict()
        for part in LOG_SUMS:
            own[part] = {name: value.cpu() for name, value in own[part].items()}
        logs, rngs, cuda_rngs = zip(
            *self.runtime.gather((own, torch.get_rng_state(), cuda_rng)), strict=True
        )
        return {
            **self.whole_identity(),
            "step": self.step,
            "seconds": self.seconds,
            "arithmetic": arithmetic(device),
            "model": self.model.state_dict(),
            "losses": self.losses.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "keeper": self.saver.state_dict(),
            "log_bytes": log.bytes_written(),
            # Of each process, by rank.
            "log": list(logs),
            "rng": list(rngs),
            "cuda_rng": list(cuda_rngs),
        }

    def load(self, past: dict[str, Any], path: Path) -> None:
        """Take everything back from a checkpoint, except the log, which is not open yet.

        Raises:
            UserError: it is of another run, of another model, or of another version of this program.
        """
        again = (
            "resume with the same data and flags, or start again with "
            f"{setting('overwrite_output_dir')}"
        )
        if told := _other_run(UNSAID | past, self.whole_identity()):
            raise UserError(f"{path}: belongs to {told}; {again}")
        try:
            self.model.load_state_dict(past["model"])
            # Which older checkpoints lack: no objective had anything of its own.
            self.losses.load_state_dict(past.get("losses", {}))
            self.optimizer.load_state_dict(past["optimizer"])
            self.scaler.load_state_dict(past["scaler"])
            for log in past["log"]:
                RunLog.check_state(log)
            if not 0 < past["step"] < self.total or past["log_bytes"] < 0:
                raise ValueError("step")
            self.step, self.seconds = past["step"], float(past.get("seconds", 0.0))
            self._load_generators(past, path)
            if self.runtime.is_main:  # last, because it moves files
                self.saver.load_state_dict(past["keeper"])
        except KeyError as error:
            raise UserError(
                f"{path}: lacks {error}, of another version of this program; {again}"
            ) from None
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(f"{path}: belongs to another model; {again}") from error

    def _load_generators(self, past: dict[str, Any], path: Path) -> None:
        """Continue the random numbers of dropout; say where they, or the arithmetic, cannot be the same."""
        runtime, (rngs, cuda_rngs) = self.runtime, (past["rng"], past["cuda_rng"])
        if not 0 < len(rngs) == len(cuda_rngs) == len(past["log"]):
            raise ValueError("processes")
        if len(rngs) == runtime.world:
            torch.set_rng_state(rngs[runtime.rank])
            if cuda_rngs[runtime.rank] is not None and runtime.device.type == "cuda":
                torch.cuda.set_rng_state(cuda_rngs[runtime.rank], runtime.device)
        else:
            torch.manual_seed(hash((self.settings.seed, runtime.rank, self.step)) % 2**63)
            if runtime.is_main:
                print(
                    f"note: {path} is of {len(rngs)} processes, this run has {runtime.world}: "
                    "dropout masks will differ",
                    file=sys.stderr,
                )
        here = arithmetic(runtime.device)
        if runtime.is_main and past.get("arithmetic", here) != here:
            print(
                f"note: {path} was computed by {past['arithmetic']}, this run is by {here}: what follows "
                "equals an uninterrupted run up to rounding, not bit for bit",
                file=sys.stderr,
            )


def make_optimizer(trained: nn.Module, settings: TrainingSettings, total: int) -> BertAdam:
    """An optimiser of the trainable parameters.

    Decay applies to the weights of linear layers and embeddings; biases, LayerNorm and what an objective
    holds besides do not decay, as BERT was trained.
    """
    matrices = {
        module.weight
        for module in trained.modules()
        if isinstance(module, nn.Linear | nn.Embedding)
    }
    parameters = [p for p in trained.parameters() if p.requires_grad]
    own = {} if settings.epsilon is None else {"e": settings.epsilon}
    warmup = settings.warmup_proportion
    if settings.warmup_steps is not None:
        warmup = min(settings.warmup_steps / max(total, 1), 1 - 1e-9)
    return OPTIMIZERS[settings.optimizer_name](
        [
            {
                "params": [p for p in parameters if p in matrices],
                "weight_decay": settings.weight_decay,
            },
            {"params": [p for p in parameters if p not in matrices], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        warmup=warmup,
        t_total=max(total, 1),
        schedule=settings.schedule,
        b1=settings.betas[0],
        b2=settings.betas[1],
        max_grad_norm=settings.max_grad_norm,
        skip_nonfinite=settings.nan_policy == "skip",
        clip=settings.clip,
        **own,
    )


def identity_of(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that a resumed run must share: those that change what is learned."""
    free = {"accumulation", "eval_step", "save_minutes", "save_steps", "nan_policy", "recorded"}
    free |= {"max_minutes", "patience"}
    kept = {name: value for name, value in asdict(settings).items() if name not in free}
    return kept | {"betas": list(settings.betas)}


def arithmetic(device: torch.device) -> str:
    """What the bits of a result depend on besides the settings: the processor and its library, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    here = processor()
    kind = " ".join(filter(None, (here.vendor, here.vectors))) or here.name
    return f"{kind}, matrix products by {products_by()}"


def log_of(state: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
    """What this process had added up; of another number of processes the first takes it all."""
    logs = state["log"]
    if len(logs) == runtime.world:
        return logs[runtime.rank]
    if not runtime.is_main:
        return logs[0] | {part: {} for part in LOG_SUMS}
    return logs[0] | {
        part: {name: sum(log[part][name] for log in logs) for name in logs[0][part]}
        for part in LOG_SUMS
    }


def _other_run(of_run: Mapping[str, Any], identity: Mapping[str, Any]) -> str | None:
    """What kind of run a checkpoint is of, if not of this one."""
    kinds = {
        "data": "a run on other data",
        "teacher": "a run with another teacher",
        "start_weights": "a run that started from another model",
    }
    for name, own in identity.items():
        if name in of_run and of_run[name] != own:
            if name in kinds:
                return kinds[name]
            if name == "total":
                return f"a run of {of_run[name]} steps, this one has {own}"
            if name == "precision":
                return f"a run in {of_run[name]}, this one is in {own}"
            told = "optimizer" if name == "optimizer_name" else name
            return f"a run with {told} {of_run[name]}, this one has {own}"
    return None

"""The one training loop.

It takes global batches (distillation/global_batches.py), adds up the losses it is handed, steps the
optimiser, logs, evaluates, keeps models, and can resume where a killed run stopped. It knows nothing of
what the losses are or what the rows mean.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from distillation.checkpoint import Checkpoints, ModelSaver
from distillation.compilation import check_compiler, compile_layers
from distillation.cuda_graphs import Inputs
from distillation.distributed import Runtime
from distillation.forecast import Forecast
from distillation.global_batches import BatchSource, GlobalBatch, global_batches
from distillation.gradients import Gradients, LossFunction
from distillation.records import METRICS_NAME, TEXT_LOG_NAME
from distillation.resume import identity_of, log_of, restore, run_state
from distillation.run_log import RunLog, open_log, write_text_log
from files.errors import Stopped, StopRequest, UserError
from files.progress import progress_bar
from transformer.optimization import OPTIMIZERS, BertAdam
from transformer.precision import cast_frozen_linears


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: passes over the data.
        learning_rate, schedule, warmup_proportion, weight_decay, clip: see `BertAdam`.
        optimizer_name: a key of `OPTIMIZERS`.
        accumulation: micro-steps a batch is computed in.
        precision: `fp32`, `bf16` (forward pass in bfloat16, weights and losses in fp32), or `fp16` (GPU).
        seed: of dropout; rank r of several processes starts from seed + r.
        max_steps: stop after so many optimiser steps; the schedule then ends there as well.
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
    eval_step: int = 1000
    save_minutes: float = 10.0
    save_steps: int | None = None
    nan_policy: str = "stop"
    compiled: bool = False
    recorded: bool = True
    optimizer_name: str = "bertadam"
    clip: str = "tensor"


def train(
    model: nn.Module,
    losses: LossFunction,
    source: BatchSource,
    settings: TrainingSettings,
    runtime: Runtime,
    folder: Path,
    keeper: ModelSaver,
    resume: bool = False,
    told_by: Mapping[str, Any] = MappingProxyType({}),
    tell: Callable[[dict[str, Any]], None] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train `model` and keep what `keeper` keeps.

    Args:
        model: what is trained; on `runtime.device` already.
        losses: called as `losses(model, batch)`; returns named scalars, each a mean over what
            `source.weights` counts and already weighted. Their sum is minimised; a `by_layer` beside
            them is logged.
        folder: receives `metrics.jsonl` and, while training, a checkpoint to resume from.
        resume: start from the newest whole checkpoint in `folder`, if one is there.
        told_by: what tells this run from others besides its settings: `data`, `teacher`, flags, each a
            plain value; a checkpoint with others is refused.
        tell: called on the main process with each line of the log once it is written.
        begin: called on the main process before anything is written, a checkpoint having been accepted.

    Returns:
        Facts for the run record: steps, those left out, examples, seconds in the loop, examples per second.

    Raises:
        UserError: a number is not finite, too many steps were left out, or the checkpoints are torn or of
            another run.
        Stopped: SIGINT or SIGTERM came; the step was finished and a checkpoint written.
    """
    check_settings(settings, runtime)
    counts = [source.count(epoch) for epoch in range(settings.epochs)]
    total = number_of_steps(source, settings)
    optimizer = make_optimizer(model, settings, total)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=settings.precision == "fp16")
    if settings.compiled:
        compile_layers(model)
    recorded = settings.recorded and runtime.device.type == "cuda"
    gradients = Gradients(model, losses, runtime, scaler, settings.precision, recorded)
    torch.manual_seed(settings.seed + runtime.rank)

    checkpoints = Checkpoints(folder)
    identity = {"total": total, **identity_of(settings), **told_by}
    step, log_bytes, past = 0, 0, None
    if resume and (found := checkpoints.load()) is not None:
        path, past = found
        restore(past, path, identity, model, optimizer, scaler, keeper, settings.seed, runtime)
        step, log_bytes = past["step"], past["log_bytes"]
        if runtime.is_main:
            print(f"resuming after step {step} of {total}", file=sys.stderr)
    elif resume and runtime.is_main:
        keeper.set_aside()
    if runtime.is_main:
        begin()
    started = saved = time.monotonic()
    model.train()
    bar = progress_bar(
        total, "step", "training", initial=step, unit_scale=False, smoothing=0.05,
        disable=not runtime.is_main,
    )  # fmt: skip
    opened = open_log(folder / METRICS_NAME, log_bytes, runtime.is_main)
    with opened as file, bar, StopRequest() as asked, runtime.exchange():
        skip = settings.nan_policy == "skip"
        log = RunLog(
            file, bar, runtime.highest_each, runtime.total, skip, tell, scaler.is_enabled()
        )
        if past is not None:
            log.load_state_dict(log_of(past, runtime), runtime.device)
        examples_before = log.examples
        log_step = max(1, min(50, total // 20))

        def say(line: str) -> None:
            if runtime.is_main:  # the others' bars have nowhere to write
                bar.write(line, file=bar.fp)

        forecast = Forecast(total - step, say, keeper.evaluate is not None)
        for whole in global_batches(source, settings.accumulation, runtime, counts, step, total):
            step += 1
            _step(whole, step, gradients, optimizer, log)
            bar.update()
            forecast.step()
            if step % log_step == 0 or step == total:
                log.write_losses(step, whole.epoch, optimizer.get_lr()[0], step == total)
            if step % settings.eval_step == 0 or whole.closes_epoch or step == total:
                log.check()  # stops the run before a model of broken numbers is kept
                _evaluate(model, keeper, step, log, runtime)
                if runtime.is_main:
                    write_text_log(folder / METRICS_NAME, folder / TEXT_LOG_NAME)
            due = time.monotonic() - saved > 60 * settings.save_minutes
            due = due or step % (settings.save_steps or total) == 0
            # Every process saves, or stops, after the same step.
            wish = runtime.highest(asked.signum or int(due))
            if wish and step < total:
                log.check()
                state = run_state(model, optimizer, scaler, keeper, log, step, runtime)
                if runtime.is_main:
                    keeper.check()
                    checkpoints.save(identity | state)
                saved = time.monotonic()
            if wish > 1 and step < total:
                raise Stopped(wish, f"after step {step} of {total}; --resume continues from there")
    seconds = time.monotonic() - started
    return {
        "steps": step,
        "examples": log.examples,
        "tokens": log.tokens,
        "skipped_steps": log.skipped,
        "training_seconds": round(seconds, 3),
        "examples_per_second": round((log.examples - examples_before) / max(seconds, 1e-9), 2),
    }


def number_of_steps(source: BatchSource, settings: TrainingSettings) -> int:
    """Optimiser steps of a whole run."""
    steps = sum(source.count(epoch) for epoch in range(settings.epochs))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def time_step(
    model: nn.Module,
    losses: LossFunction,
    source: BatchSource,
    settings: TrainingSettings,
    runtime: Runtime,
) -> float:
    """Seconds that the losses and gradients of a batch take on this process; nothing is learned.

    The median of the first batches, a warm-up left out. Arguments as for `train`.
    """
    counts, spans = [source.count(0)], []
    if settings.compiled:
        compile_layers(model)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=settings.precision == "fp16")
    alone = replace(runtime, world=1)
    gradients = Gradients(model, losses, alone, scaler, settings.precision, settings.recorded)
    model.train()
    for whole in global_batches(
        source, settings.accumulation, runtime, counts, 0, min(5, counts[0])
    ):
        # A recording is made the second time and replayed the third.
        for _ in range(3 if gradients.recorder.enabled else 1):
            began = time.perf_counter()
            gradients.clear()
            for batch, share in whole.parts:
                gradients(batch, share)
            if runtime.device.type == "cuda":
                torch.cuda.synchronize(runtime.device)
            taken = time.perf_counter() - began
        spans.append(taken)
    model.zero_grad(set_to_none=True)
    return statistics.median(spans[1:] or spans)


def prepare_teacher(teacher: nn.Module, settings: TrainingSettings, dropout: bool = False) -> None:
    """Freeze a teacher and have it answer in the precision, and compiled if so, as its student trains.

    Args:
        dropout: leave its dropout on.
    """
    teacher.requires_grad_(False).train(dropout)
    cast_frozen_linears(teacher, settings.precision)
    if settings.compiled:
        compile_layers(teacher)


def make_optimizer(model: nn.Module, settings: TrainingSettings, total: int) -> BertAdam:
    """An optimiser of the trainable parameters; no decay on biases and LayerNorm, as BERT was trained."""
    exempt = {
        p
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if name == "bias" or isinstance(module, nn.LayerNorm)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    plain = [p for p in trained if p in exempt]
    decayed = [p for p in trained if p not in exempt]
    return OPTIMIZERS[settings.optimizer_name](
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        warmup=settings.warmup_proportion,
        t_total=max(total, 1),
        schedule=settings.schedule,
        skip_nonfinite=settings.nan_policy == "skip",
        clip=settings.clip,
    )


def check_settings(settings: TrainingSettings, runtime: Runtime) -> None:
    """Refuse settings that this machine or the loop cannot follow.

    Raises:
        UserError: nothing to compile with, or no micro-step at all.
    """
    if settings.compiled:
        check_compiler(runtime.device)
    if settings.accumulation < 1:
        raise UserError(
            f"--gradient_accumulation_steps {settings.accumulation}: expected at least 1"
        )


def _step(
    whole: GlobalBatch, step: int, gradients: Gradients, optimizer: BertAdam, log: RunLog
) -> None:
    """Forward and backward over the micro-batches, then one optimiser step."""
    gradients.clear()
    means: dict[str, Tensor] = {}
    by_layer: dict[str, Tensor] = {}
    for batch, share in whole.parts:
        parts = gradients(batch, share)
        for sums, values in ((means, parts), (by_layer, getattr(parts, "by_layer", {}))):
            for name, value in values.items():
                value = value * share
                sums[name] = sums[name] + value if name in sums else value
    gradients.exchange()
    bad = ~sum(means.values()).isfinite()
    scaler, rescaled = gradients.scaler, False
    if scaler.is_enabled():  # it looks for gradients that are not finite itself, and expects some
        scale = scaler.get_scale()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        rescaled = scaler.get_scale() < scale
    else:
        updates = optimizer.due()

        def apply(rates: Inputs) -> None:
            optimizer.apply(
                [u._replace(lr=lr) for u, lr in zip(updates, rates.values(), strict=True)]
            )

        gradients.recorder("update", apply, {str(i): u.lr for i, u in enumerate(updates)})
        if optimizer.nonfinite is not None:
            bad = bad | optimizer.nonfinite
    log.count(step, whole.epoch, whole.rows, whole.tokens, means, by_layer, bad, rescaled)


def _evaluate(
    model: nn.Module, keeper: ModelSaver, step: int, log: RunLog, runtime: Runtime
) -> None:
    """Evaluate and save on the main process while the others wait."""
    model.eval()
    if runtime.is_main:
        log.write_scores(step, keeper(step))
    model.train()
    runtime.wait()

"""The one training loop.

It takes global batches (distillation/global_batches.py), adds up the losses it is handed, steps the
optimiser, logs, evaluates, keeps models, and can resume where a killed run stopped. It knows nothing of
what the losses are or what the rows mean.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillation.checkpoint import Checkpoints
from distillation.compilation import check_compiler, compile_layers
from distillation.cuda_graphs import Inputs
from distillation.distributed import Runtime
from distillation.forecast import Forecast
from distillation.global_batches import BatchSource, GlobalBatch, global_batches
from distillation.gradients import Gradients
from distillation.objective import Losses, Objectives, Step
from distillation.records import METRICS_NAME, TEXT_LOG_NAME
from distillation.run_log import RunLog, open_log, write_text_log
from distillation.state import TrainingSettings, TrainState, log_of
from files.errors import Stopped, StopRequest, UserError, setting
from files.progress import progress_bar
from transformer.precision import cast_frozen_linears

OVER = 1000  # above every signal's number: the run ends here


def train(
    state: TrainState,
    source: BatchSource,
    folder: Path,
    resume: bool = False,
    tell: Callable[[dict[str, Any]], None] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train a model and keep what its saver keeps.

    Args:
        source: the losses are means over what its `weights` count.
        folder: receives `metrics.jsonl` and, while training, a checkpoint to resume from.
        resume: start from the newest whole checkpoint in `folder`, if one is there.
        tell: called on the main process with each line of the log once it is written.
        begin: called on the main process before anything is written, a checkpoint having been accepted.

    Returns:
        Facts for the run record: steps, those left out, examples, seconds in the loop, examples per second.

    Raises:
        UserError: a number is not finite, too many steps were left out, or the checkpoints are torn or of
            another run.
        Stopped: SIGINT or SIGTERM came; the step was finished and a checkpoint written.
    """
    model, settings, runtime, saver = state.model, state.settings, state.runtime, state.saver
    check_settings(settings, runtime)
    counts = [source.count(epoch) for epoch in range(settings.epochs)]
    if settings.compiled:
        compile_layers(model)
    gradients = Gradients(
        model, state.losses, runtime, state.scaler, settings.precision, settings.recorded
    )
    torch.manual_seed(settings.seed + runtime.rank)
    checkpoints = Checkpoints(folder)
    past = _resume(state, checkpoints) if resume else None
    if runtime.is_main:
        begin()
    started = time.monotonic()
    model.train()
    bar = progress_bar(
        state.total, "step", "training", initial=state.step, unit_scale=False, smoothing=0.05,
        disable=not runtime.is_main,
    )  # fmt: skip
    opened = open_log(folder / METRICS_NAME, past["log_bytes"] if past else 0, runtime.is_main)
    with opened as file, bar, StopRequest() as stop, runtime.exchange():
        log = RunLog(
            file, bar, runtime, settings.nan_policy == "skip", state.scaler.is_enabled(), tell
        )
        if past is not None:
            log.load_state_dict(log_of(past, runtime), runtime.device)
        examples_before = log.examples
        loop = _Loop(state, log, checkpoints, folder, started)

        def say(line: str) -> None:
            if runtime.is_main:  # the others' bars have nowhere to write
                bar.write(line, file=bar.fp)

        forecast = Forecast(state.total - state.step, say, saver.evaluate is not None)
        for batch in global_batches(
            source, settings.accumulation, runtime, counts, state.step, state.total
        ):
            state.step += 1
            _step(batch, state, gradients, log)
            bar.update()
            forecast.step()
            if ended := loop.after(batch, stop):
                break
    seconds = time.monotonic() - started
    return {
        "steps": state.step,
        **({"ended_by": ended} if ended else {}),
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
    losses: Objectives,
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


def check_settings(settings: TrainingSettings, runtime: Runtime) -> None:
    """Refuse settings that this machine or the loop cannot follow.

    Raises:
        UserError: nothing to compile with, or no micro-step at all.
    """
    if settings.compiled:
        check_compiler(runtime.device)
    if settings.accumulation < 1:
        raise UserError(
            f"{setting('gradient_accumulation_steps')} {settings.accumulation}: expected at least 1"
        )


def _resume(state: TrainState, checkpoints: Checkpoints) -> dict[str, Any] | None:
    """Take a run up at its newest checkpoint; None if there is none."""
    if (found := checkpoints.load()) is None:
        if state.runtime.is_main:
            state.saver.set_aside()
        return None
    path, past = found
    state.load(past, path)
    if state.runtime.is_main:
        print(f"resuming after step {state.step} of {state.total}", file=sys.stderr)
    return past


def _step(batch: GlobalBatch, state: TrainState, gradients: Gradients, log: RunLog) -> None:
    """Forward and backward over the micro-batches, then one optimiser step."""
    gradients.clear()
    gradients.step = Step(state.step, state.settings.seed)
    means: dict[str, Tensor] = {}
    by_layer: dict[str, Tensor] = {}
    for part, share in batch.parts:
        losses = gradients(part, share)
        for sums, values in ((means, losses.named), (by_layer, losses.by_layer)):
            for name, value in values.items():
                value = value * share
                sums[name] = sums[name] + value if name in sums else value
    gradients.exchange()
    bad = ~sum(means.values()).isfinite()
    optimizer, scaler, rescaled = state.optimizer, state.scaler, False
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
    log.count(state.step, batch, Losses(means, by_layer), bad, rescaled)


class _Loop:
    """What follows a step: log lines, evaluations, checkpoints, and whether it was the last one."""

    def __init__(
        self, state: TrainState, log: RunLog, checkpoints: Checkpoints, folder: Path, started: float
    ) -> None:
        self.state, self.log, self.checkpoints, self.folder = state, log, checkpoints, folder
        self.began = started - state.seconds
        self.saved = started
        self.log_step = max(1, min(50, state.total // 20))

    def after(self, batch: GlobalBatch, stop: StopRequest) -> str | None:
        """Do what is due after a step; return why the run ends before its last one, if it does.

        Raises:
            UserError: numbers are not finite (see `RunLog.check`).
            Stopped: a signal came.
        """
        state, settings, last = self.state, self.state.settings, self.state.step == self.state.total
        if state.step % self.log_step == 0 or last:
            self._write_losses(batch, last)
        evaluates = state.step % settings.eval_step == 0 or batch.closes_epoch or last
        if evaluates:
            self._evaluate()
        now = time.monotonic()
        ends = self._ends(now)
        due = now - self.saved > 60 * settings.save_minutes
        due = due or state.step % (settings.save_steps or state.total) == 0
        # Every process saves, stops, or ends, after the same step.
        wanted = state.runtime.highest(OVER if ends else stop.signum or int(due))
        if last or not wanted:
            return None
        if wanted == OVER:
            self._write_losses(batch, True)
            if not evaluates:
                self._evaluate()
            return state.runtime.gather(ends)[0] or "max_minutes"
        self._save(now)
        if wanted > 1:
            raise Stopped(
                wanted,
                f"after step {state.step} of {state.total}; {setting('resume')} continues from there",
            )
        return None

    def _ends(self, now: float) -> str | None:
        settings, saver = self.state.settings, self.state.saver
        if settings.max_minutes is not None and now - self.began >= 60 * settings.max_minutes:
            return "max_minutes"
        if settings.patience is not None and saver.without_gain >= settings.patience:
            return "patience"
        return None

    def _write_losses(self, batch: GlobalBatch, ended: bool) -> None:
        self.log.write_losses(self.state.step, batch.epoch, self.state.optimizer.get_lr()[0], ended)

    def _evaluate(self) -> None:
        """Evaluate and save on the main process while the others wait."""
        self.log.check()  # stops the run before a model of broken numbers is kept
        model, runtime = self.state.model, self.state.runtime
        model.eval()
        if runtime.is_main:
            self.log.write_scores(self.state.step, self.state.saver(self.state.step))
        model.train()
        runtime.wait()
        if runtime.is_main:
            write_text_log(self.folder / METRICS_NAME, self.folder / TEXT_LOG_NAME)

    def _save(self, now: float) -> None:
        self.log.check()
        self.state.seconds = now - self.began
        saved = self.state.save(self.log)
        if self.state.runtime.is_main:
            self.state.saver.check()
            self.checkpoints.save(saved)
        self.saved = time.monotonic()

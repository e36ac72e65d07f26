"""Which models a run keeps, and what it needs to go on after an interruption."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from transformer.errors import UserError
from transformer.file_utils import WEIGHTS_NAME, atomic_open
from transformer.weights import read_tensors, save_weights, write_tensors

LAST_WEIGHTS_NAME = "last_pytorch_model.bin"
CHECKPOINT_NAME = "checkpoint.pt"
PREVIOUS_CHECKPOINT_NAME = "checkpoint.previous.pt"

Metrics = dict[str, dict[str, float]]  # dev set -> metric -> value


class ModelKeeper:
    """Writes the model at every evaluation point.

    With an `evaluate` function `pytorch_model.bin` is the best model so far and
    `last_pytorch_model.bin` the newest; without one `pytorch_model.bin` is the newest. A score counts
    as better from minus infinity on, so a model exists after the first evaluation whatever its score.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | os.PathLike,
        evaluate: Callable[[], Metrics] | None = None,
        score: Callable[[Metrics], float] | None = None,
        keep_steps: bool = False,
        check: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            model: the model itself (not a parallel wrapper around it).
            folder: where its files go.
            evaluate: returns the metrics of every dev set.
            score: the number of those to select on; higher is better.
            keep_steps: also keep `step_N_pytorch_model.bin`, as the published general distillation.
            check: called before a model or a checkpoint is written; raises if it should not be, because
                what it has learned from proved damaged.
        """
        self.model, self.folder, self.check = model, Path(folder), check or (lambda: None)
        self.evaluate, self.score, self.keep_steps = evaluate, score, keep_steps
        self.best_score, self.best_step = -math.inf, 0
        self.best: Metrics = {}
        self.last: Metrics = {}

    def __call__(self, step: int, write: bool = True) -> Metrics:
        """Evaluate and save after optimiser step `step`; return the metrics."""
        self.check()
        if self.evaluate is None:
            self.best_step = step
            if write:
                self._save(WEIGHTS_NAME, step)
            return {}
        self.last = self.evaluate()
        score = self.score(self.last)
        if math.isnan(score):
            score = -math.inf
        improved = score > self.best_score or not self.best
        if improved:
            self.best_score, self.best_step, self.best = score, step, self.last
        if write:
            self._save(LAST_WEIGHTS_NAME, step)
            if improved:
                _copy(self.folder / LAST_WEIGHTS_NAME, self.folder / WEIGHTS_NAME)
        return self.last

    def _save(self, name: str, step: int) -> None:
        save_weights(self.model.state_dict(), self.folder / name)
        if self.keep_steps:
            _copy(self.folder / name, self.folder / f"step_{step}_{WEIGHTS_NAME}")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the past."""
        return {
            "best_score": self.best_score,
            "best_step": self.best_step,
            "best": self.best,
            "last": self.last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the past of an interrupted run."""
        vars(self).update({name: state[name] for name in self.state_dict()})


def _copy(source: Path, target: Path) -> None:
    """Copy a file, complete or not at all.

    No hard link: `cp step_N_pytorch_model.bin pytorch_model.bin`, a published command, refuses two names
    of one file.
    """
    with source.open("rb") as original, atomic_open(target, "wb") as copy:
        shutil.copyfileobj(original, copy, 1 << 24)


class Checkpoints:
    """The two newest checkpoints of a run: `checkpoint.pt`, and the one before it."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.newest = Path(folder) / CHECKPOINT_NAME
        self.before = Path(folder) / PREVIOUS_CHECKPOINT_NAME
        self._sound = False  # whether this run has read or written the newest

    def load(self) -> tuple[Path, dict[str, Any]] | None:
        """Read the newest that is whole, and say so if it is not the newest; None if there is none.

        Raises:
            UserError: there are checkpoints, and none is whole.
        """
        torn: list[UserError] = []
        for path in (self.newest, self.before):
            if path.exists():
                try:
                    state = load_checkpoint(path)
                except UserError as error:
                    torn.append(error)
                    continue
                self._sound = path == self.newest
                if torn:
                    print(f"note: {torn[0]}; using {path.name}", file=sys.stderr)
                return path, state
        if torn:
            raise UserError(f"{torn[0]}; start again with --overwrite_output_dir")
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint of tensors and plain values; the newest becomes the one before it."""
        with atomic_open(self.newest, "wb") as file:
            write_tensors(state, file)
            if self._sound:  # a torn one must not take the place of a whole one
                os.replace(self.newest, self.before)
        self._sound = True

    def remove(self) -> None:
        """Remove both: the run is finished."""
        for path in (self.newest, self.before):
            path.unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read one checkpoint, its checksums verified.

    Raises:
        UserError: the file is torn or holds anything but tensors and plain values.
    """
    try:
        state = read_tensors(path)
        if not isinstance(state, dict):
            raise TypeError("no table")
    except Exception as error:  # torch raises many kinds on a torn file; each is the file's fault
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__})"
        ) from error
    return state

"""Which models a run keeps, and what it needs to resume after an interruption."""

from __future__ import annotations

import contextlib
import filecmp
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from files.atomic import atomic_open
from files.errors import UserError, setting
from transformer.file_utils import WEIGHTS_NAME
from transformer.weights import read_tensors, save_weights, write_tensors

LAST_WEIGHTS_NAME = "last_pytorch_model.bin"
CHECKPOINT_NAME = "checkpoint.pt"
PREVIOUS_CHECKPOINT_NAME = "checkpoint.previous.pt"
# And a number: a folder of models that a killed run wrote after its last checkpoint.
ABANDONED_NAME = "abandoned-"

Metrics = dict[str, dict[str, float]]  # dev set -> metric -> value


class ModelSaver:
    """Writes the model at every evaluation point.

    With an `evaluate` function `pytorch_model.bin` is the best model so far and
    `last_pytorch_model.bin` the newest; without one `pytorch_model.bin` is the newest. A score counts
    as better from minus infinity on, so a model exists after the first evaluation whatever its score.

    The best model is part of the state, beside its score: what a killed run wrote after its last checkpoint
    may be better, and need not come about again (other evaluation steps, another number of processes).
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
        self.step = 0  # of the newest evaluation
        self.best_score, self.best_step = -math.inf, 0
        self.without_gain = 0  # evaluations since the best one
        self.best: Metrics = {}
        self.last: Metrics = {}
        self.best_model: dict[str, Tensor] = {}  # on the CPU; empty without `evaluate`

    def __call__(self, step: int) -> Metrics:
        """Evaluate and save after optimiser step `step`; return the metrics."""
        self.check()
        self.step = step
        if self.evaluate is None:
            self.best_step = step
            self._save(WEIGHTS_NAME)
            return {}
        self.last = self.evaluate()
        score = self.score(self.last)
        if math.isnan(score):
            score = -math.inf
        self._save(LAST_WEIGHTS_NAME)
        self.without_gain += 1
        if score > self.best_score or not self.best:
            self.best_score, self.best_step, self.best = score, step, self.last
            self.without_gain = 0
            self.best_model = {
                name: value.detach().to("cpu", copy=True)
                for name, value in _weights(self.model).items()
            }
            _copy(self.folder / LAST_WEIGHTS_NAME, self.folder / WEIGHTS_NAME)
        return self.last

    def _save(self, name: str) -> None:
        path = self.folder / name
        save_weights(_weights(self.model), path)
        if self.keep_steps:
            _copy(path, self.folder / f"step_{self.step}_{WEIGHTS_NAME}")
        for abandoned in self.folder.glob(f"{ABANDONED_NAME}*/*"):
            if filecmp.cmp(abandoned, path, shallow=False):  # it has come about again
                abandoned.unlink()
                with contextlib.suppress(OSError):  # others are in it
                    abandoned.parent.rmdir()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the past."""
        return {
            "step": self.step,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "without_gain": self.without_gain,
            "best": self.best,
            "last": self.last,
            "best_model": self.best_model,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the past of an interrupted run, and make its files those of this past.

        To be called by the process that writes.
        """
        state = {"without_gain": 0, **state}  # which older checkpoints lack
        vars(self).update({name: state[name] for name in self.state_dict()})
        self.set_aside()

    def set_aside(self) -> None:
        """Move what was written after the state was saved into a folder `abandoned-N`, and say so.

        `pytorch_model.bin` is the best model that the state knows again. A model that is then written a
        second time is removed from that folder.
        """
        best = self.folder / WEIGHTS_NAME
        later = [
            path for path in self.folder.glob(f"step_*_{WEIGHTS_NAME}") if self._is_later(path)
        ]
        if self.evaluate is not None and best.exists() and not _holds(best, self.best_model):
            later.append(best)
        if later:
            aside = first_free(self.folder / ABANDONED_NAME)
            aside.mkdir()
            for path in later:
                path.rename(aside / path.name)
            names = ", ".join(sorted(path.name for path in later))
            print(
                f"note: {self.folder}: {names} came after the checkpoint; kept in {aside.name}",
                file=sys.stderr,
            )
        if self.best_model and not best.exists():
            save_weights(self.best_model, best)

    def _is_later(self, path: Path) -> bool:
        step = path.name.split("_")[1]
        return step.isdecimal() and int(step) > self.step


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights under the names that its files have."""
    return model.weights() if hasattr(model, "weights") else model.state_dict()


def first_free(path: str | os.PathLike) -> Path:
    """The first of `path`1, `path`2 … that is not there."""
    return next(
        free for number in range(1, 10_000) if not (free := Path(f"{path}{number}")).exists()
    )


def _holds(path: Path, weights: dict[str, Tensor]) -> bool:
    """Whether a file holds these tensors and no others."""
    try:
        found = read_tensors(path)
    except Exception:  # of many kinds on a torn file
        return False
    return found.keys() == weights.keys() and all(
        torch.equal(found[name], weights[name]) for name in weights
    )


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
            raise UserError(f"{torn[0]}; start again with {setting('overwrite_output_dir')}")
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

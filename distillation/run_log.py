"""What a training run tells while it runs: `metrics.jsonl` and the numbers beside the progress bar."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from tqdm import tqdm

from transformer.errors import UserError
from transformer.file_utils import atomic_open


class RunLog:
    """Adds up losses between two log lines, and writes the lines.

    The sums stay on the device: reading them is a synchronisation, which only a log line pays for.
    """

    def __init__(self, file: IO[str] | None, bar: tqdm) -> None:
        """
        Args:
            file: `metrics.jsonl`, or None on a process that does not write.
            bar: shows the newest loss.
        """
        self._file, self._bar = file, bar
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self.examples = 0
        self._logged_examples = 0
        self._since = time.monotonic()

    def add(self, losses: dict[str, Tensor], share: float) -> None:
        """Count the losses of a micro-batch that is `share` of its whole batch."""
        for name, value in losses.items():
            value = value.detach() * share
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def count(self, rows: int) -> None:
        """Count one optimiser step over `rows` examples."""
        self._steps += 1
        self.examples += rows

    def means(self, step: int) -> dict[str, float]:
        """Mean losses since the last line.

        Raises:
            UserError: the loss is not finite: a model trained on it is not worth keeping.
        """
        if not self._steps:
            return {}
        sums = torch.stack([value.float() for value in self._sums.values()])
        means = (sums / self._steps).tolist()
        if not math.isfinite(sum(means)):
            raise UserError(
                f"step {step}: the loss is {sum(means)}; the run was stopped. Lower --learning_rate, or "
                f"use fp32 in place of --bf16/--fp16"
            )
        return dict(zip(self._sums, means, strict=True))

    def write_losses(self, step: int, epoch: int, learning_rate: float) -> None:
        """Write the mean losses since the last line, and start anew."""
        means = self.means(step)
        now = time.monotonic()
        speed = (self.examples - self._logged_examples) / max(now - self._since, 1e-9)
        loss = sum(means.values())
        self._write(
            {
                "step": step,
                "epoch": epoch,
                "loss": loss,
                **(means if len(means) > 1 else {}),
                "learning_rate": learning_rate,
                "examples_per_second": round(speed, 2),
            }
        )
        self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._sums, self._steps = {}, 0
        self._logged_examples, self._since = self.examples, now

    def write_scores(self, step: int, metrics: dict[str, dict[str, float]]) -> None:
        """Write the dev scores after `step`, and show them above the bar."""
        if not metrics:
            return
        self._write({"step": step, "dev": metrics})
        shown = "  ".join(
            f"{split} {name} {value:.4f}"
            for split, values in metrics.items()
            for name, value in values.items()
        )
        self._bar.write(f"step {step}: {shown}", file=self._bar.fp)

    def bytes_written(self) -> int:
        """Length of the file so far: what a resumed run keeps of it."""
        return self._file.tell() if self._file is not None else 0

    def state_dict(self) -> dict[str, Any]:
        """What was added up since the last line, so that a checkpoint need not write one."""
        return {"sums": self._sums, "steps": self._steps, "examples": self.examples}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on adding where an interrupted run stopped."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._steps, self.examples = state["steps"], state["examples"]
        self._logged_examples = self.examples

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def write_text_log(metrics: Path, path: Path) -> None:
    """Write the lines of `metrics.jsonl` as text, `key = value` pairs, one line each (`log.txt`)."""
    with metrics.open(encoding="utf-8") as lines, atomic_open(path) as text:
        for line in lines:
            pairs = json.loads(line).items()
            text.write(", ".join(f"{name} = {value}" for name, value in pairs) + "\n")


@contextlib.contextmanager
def open_log(path: Path, keep_bytes: int, writes: bool) -> Iterator[IO[str] | None]:
    """Open a log cut back to its first `keep_bytes`; None where this process does not write."""
    if not writes:
        yield None
        return
    with open(path, "a", encoding="utf-8") as file:
        file.truncate(min(keep_bytes, file.tell()))  # never longer: that would be a hole of zeros
        file.seek(0, os.SEEK_END)
        yield file

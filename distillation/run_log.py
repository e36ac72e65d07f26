"""What a training run tells while it runs: `metrics.jsonl` and the numbers beside the progress bar."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from distillation.distributed import Runtime
from distillation.global_batches import GlobalBatch
from distillation.objective import Losses
from distillation.records import METRICS_NAME
from files.atomic import atomic_open
from files.errors import UserError, setting

# A run stops where more than this share of its steps has been left out, once there are enough of them to
# tell, or so many in a row. The scaler of --fp16 leaves steps out until a scale fits, from 65,536 down.
MOST_SKIPPED = 0.5
_LIMITS, _LIMITS_WITH_SCALER = (10, 20), (32, 64)  # most in a row, enough
_COUNTS = ("steps", "examples", "tokens", "skipped", "in_a_row")


class RunLog:
    """Adds up losses between two log lines, and writes the lines.

    The sums, and a flag for each step whether its numbers were finite, stay on the device: reading them
    is a synchronisation, which only a log line, an evaluation or a checkpoint pays for.
    """

    def __init__(
        self,
        file: IO[str] | None,
        bar: tqdm,
        runtime: Runtime,
        skip_nonfinite: bool = False,
        scaled: bool = False,
        tell: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """
        Args:
            file: `metrics.jsonl`, or None on a process that does not write.
            bar: shows the newest loss.
            skip_nonfinite: continue after a step whose numbers were not finite; the optimiser left it out.
            scaled: whether a scaler leaves steps out as well.
            tell: called with each line once it is written.
        """
        self._file, self._bar, self._skip, self._scaled = file, bar, skip_nonfinite, scaled
        self._runtime, self._tell = runtime, tell
        self._sums: dict[str, Tensor] = {}
        self._by_layer: dict[str, Tensor] = {}
        self._steps = 0  # in the sums
        self._unchecked: list[tuple[int, int, np.ndarray, bool, Tensor]] = []
        self.skipped = 0  # steps that were left out since the run began
        self._in_a_row = 0  # of them, up to the last step that was looked at
        self.examples = self.tokens = 0
        self._logged = (0, 0)  # examples and tokens at the last line
        self._since = time.monotonic()

    def count(
        self, step: int, batch: GlobalBatch, losses: Losses, bad: Tensor, rescaled: bool = False
    ) -> None:
        """Count an optimiser step.

        Args:
            losses: this process's share of the batch's mean losses.
            bad: whether a number of this process was not finite.
            rescaled: whether the scaler left the step out, of all processes alike.
        """
        for sums, values in ((self._sums, losses.named), (self._by_layer, losses.by_layer)):
            for name, value in values.items():
                if self._skip:
                    value = value.masked_fill(bad, 0.0)
                sums[name] = sums[name] + value if name in sums else value
        self._steps += 1
        self.examples += len(batch.rows)
        self.tokens += batch.tokens
        self._unchecked.append((step, batch.epoch, batch.rows, rescaled, bad))

    def check(self, ended: bool = False) -> None:
        """Look at the steps since the last look; write down those whose numbers were not finite.

        Args:
            ended: whether the run has done its last step.

        Raises:
            UserError: there is one, and such steps are not to be skipped; or too many steps were.
        """
        if not self._unchecked:
            return
        flags = torch.stack([bad for *_, bad in self._unchecked]).to(torch.uint8)
        flags = self._runtime.highest_each(flags).tolist()
        broken, longest = [], 0
        for (step, epoch, rows, rescaled, _), bad in zip(self._unchecked, flags, strict=True):
            skipped = bool(bad or rescaled)
            self.skipped += skipped
            self._in_a_row = self._in_a_row + 1 if skipped else 0
            longest = max(longest, self._in_a_row)
            if bad:
                self._write({"step": step, "epoch": epoch, "nonfinite_rows": rows.tolist()})
                broken.append(step)
                if not self._skip:  # what follows it follows from it
                    break
        self._unchecked = []
        told = f"a loss or a gradient is not finite; {METRICS_NAME} names the batch's rows"
        if broken and not self._skip:
            raise UserError(
                f"step {broken[0]}: {told}. The run was stopped: {_advice()}; {setting('nan_policy')} skip "
                "leaves such batches out"
            )
        most, enough = _LIMITS_WITH_SCALER if self._scaled else _LIMITS
        shared = self.skipped > MOST_SKIPPED * step and (ended or step >= enough)
        if longest >= most or shared:
            row = f", {longest} of them in a row" if longest >= most else ""
            raise UserError(
                f"step {step}: {self.skipped} of {step} steps were left out{row}; nothing is learned this "
                f"way: {told}. The run was stopped: {_advice()}"
            )
        self._steps -= len(broken)
        if broken and self._file is not None:
            more = f", and {len(broken) - 1} more steps" if len(broken) > 1 else ""
            line = f"warning: step {broken[0]}: {told}; left out{more}"
            self._bar.write(line, file=self._bar.fp)

    def write_losses(
        self, step: int, epoch: int, learning_rate: float, ended: bool = False
    ) -> None:
        """Write the mean losses since the last line, and start again; for `ended` see `check`."""
        self.check(ended)
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        if self._steps:
            means, by_layer = self._read_means()
            loss = sum(means.values())
            self._write(
                {
                    "step": step,
                    "epoch": epoch,
                    "loss": loss,
                    **(means if len(means) > 1 else {}),
                    **{f"{name}_by_layer": values for name, values in by_layer.items()},
                    "learning_rate": learning_rate,
                    **({"skipped_steps": self.skipped} if self.skipped else {}),
                    "examples_per_second": round((self.examples - self._logged[0]) / seconds, 2),
                    "tokens_per_second": round((self.tokens - self._logged[1]) / seconds, 1),
                }
            )
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._sums, self._by_layer, self._steps = {}, {}, 0
        self._logged, self._since = (self.examples, self.tokens), now

    def _read_means(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """The means of what was added up, brought from the device all at once."""
        sums = [*self._sums.values(), *self._by_layer.values()]
        means = (
            self._runtime.total(torch.cat([value.float().reshape(-1) for value in sums]))
            / self._steps
        )
        parts = [part.tolist() for part in means.cpu().split([value.numel() for value in sums])]
        scalars = [value for (value,) in parts[: len(self._sums)]]
        return (
            dict(zip(self._sums, scalars, strict=True)),
            dict(zip(self._by_layer, parts[len(self._sums) :], strict=True)),
        )

    def write_scores(self, step: int, metrics: dict[str, dict[str, float]]) -> None:
        """Write the dev scores after `step`, and show them above the bar."""
        if not metrics:
            return
        self._write({"step": step, "dev": metrics})
        self._bar.write(f"step {step:,}: {scores_text(metrics)}", file=self._bar.fp)

    def bytes_written(self) -> int:
        """Length of the file so far: what a resumed run keeps of it."""
        return self._file.tell() if self._file is not None else 0

    def state_dict(self) -> dict[str, Any]:
        """What was added up since the last line, so that a checkpoint need not write one."""
        return {
            "sums": self._sums,
            "by_layer": self._by_layer,
            "steps": self._steps,
            "examples": self.examples,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
        }

    @staticmethod
    def check_state(state: dict[str, Any]) -> None:
        """Raise a KeyError, TypeError or ValueError where `state_dict` cannot have made this."""
        for name in ("sums", "by_layer"):
            if not all(isinstance(value, Tensor) for value in state[name].values()):
                raise TypeError(name)
        if min(state[name] for name in _COUNTS) < 0:
            raise ValueError("counts")

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on adding where an interrupted run stopped."""
        self._sums, self._by_layer = (
            {name: value.to(device) for name, value in state[part].items()}
            for part in ("sums", "by_layer")
        )
        self._steps, self.examples, self.tokens, self.skipped, self._in_a_row = (
            state[name] for name in _COUNTS
        )
        self._logged = (self.examples, self.tokens)

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            except OSError as error:  # the error of a full disk names no file; the user needs one
                error.filename = self._file.name
                raise
            if self._tell is not None:
                self._tell(line)


def scores_text(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Dev scores as they are shown: `dev acc 0.8300  dev f1 0.8125`."""
    return "  ".join(
        f"{split} {name} {value:.4f}"
        for split, values in metrics.items()
        for name, value in values.items()
    )


def write_text_log(metrics: Path, path: Path) -> None:
    """Write the lines of `metrics.jsonl` as text, `key = value` pairs, one line each (`log.txt`)."""
    with metrics.open(encoding="utf-8") as lines, atomic_open(path) as text:
        for line in lines:
            pairs = json.loads(line).items()
            text.write(", ".join(f"{name} = {value}" for name, value in pairs) + "\n")


@contextlib.contextmanager
def open_log(path: Path, keep_bytes: int, writes: bool) -> Iterator[IO[str] | None]:
    """Open a log cut back to its first `keep_bytes`; None where this process does not write.

    What is not a line of a log is left out, and a note says so.
    """
    if not writes:
        yield None
        return
    kept = path.read_bytes()[:keep_bytes] if keep_bytes and path.exists() else b""
    whole = b"".join(filter(is_log_line, kept.splitlines(keepends=True)))
    if len(whole) < keep_bytes:
        print(f"note: {path}: is damaged; what is left of it is kept", file=sys.stderr)
    with atomic_open(path, "wb") as file:
        file.write(whole)
    with open(path, "a", encoding="utf-8") as file:
        yield file


def is_log_line(line: bytes) -> bool:
    """Whether this is a whole line of `metrics.jsonl`: an object of numbers, and lists and tables of them."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return False
    kinds = (int, float, list, dict)
    whole = line.endswith(b"\n") and isinstance(values, dict) and type(values.get("step")) is int
    return whole and all(isinstance(value, kinds) for value in values.values())


def _advice() -> str:
    half = f"{setting('bf16')}/{setting('fp16')}"
    return f"lower {setting('learning_rate')}, use fp32 in place of {half}, or correct the rows"

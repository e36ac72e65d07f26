"""Training curves: `metrics.jsonl` as a PNG and as TensorBoard's event files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillation.records import METRICS_NAME
from distillation.run_log import is_log_line
from files.atomic import RUN_RECORD_NAME

CURVES_NAME = "curves.png"
EVENTS_FOLDER = "tensorboard"
PACKAGES = {"png": "matplotlib", "tensorboard": "tensorboard"}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's log; those that were cut off or damaged are left out."""
    lines = (folder / METRICS_NAME).read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if is_log_line(line)]


def draw_curves(folder: Path) -> None:
    """Write `curves.png` beside the run's log."""
    from reporting import plots

    lines = read_metrics(folder)
    if any("loss" in line for line in lines):
        plots.draw_training(lines, folder.name, folder / CURVES_NAME, layer_names(folder))


def undrawn(folder: Path) -> bool:
    """Whether a run's log is there, and newer than its picture."""
    log, picture = folder / METRICS_NAME, folder / CURVES_NAME
    if not log.is_file():
        return False
    return not picture.is_file() or picture.stat().st_mtime < log.stat().st_mtime


def layer_names(folder: Path) -> dict[str, list[str]]:
    """What the entries of a `…_by_layer` list are called, as far as the run's record tells."""
    try:
        record = json.loads((folder / RUN_RECORD_NAME).read_text(encoding="utf-8"))
        hidden, attention = record["mapping"]["hidden"], record["mapping"]["attention"]
        flags = record["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    layers = [f"layer {student}" for student, _ in hidden[1:]] if flags["rep_weight"] else []
    return {
        "attention_loss": [f"layer {student + 1}" for student, _ in attention],
        "hidden_loss": ["embeddings"] * bool(flags.get("emb_weight", 1)) + layers,
    }


class EventFiles:
    """Copies the lines of a log to TensorBoard's event files, in `tensorboard` beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._writer = folder, None

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Add a line that has just been written to the log.

        The first one brings all before it along: after a resumption the files are those of one run.
        """
        lines = [line]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self._folder / EVENTS_FOLDER, ignore_errors=True)
            self._writer = SummaryWriter(str(self._folder / EVENTS_FOLDER))
            lines = read_metrics(self._folder)
        for each in lines:
            for tag, value in scalars(each):
                self._writer.add_scalar(tag, value, each["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """A log line as TensorBoard's tags and values: `train/loss`, `train/hidden_loss/0`, `dev/acc`."""
    for name, value in line.items():
        if name == "dev":
            for split, metrics in value.items():
                for metric, score in metrics.items():
                    yield f"{split}/{metric}", score
        elif name.endswith("_by_layer"):
            tag = name.removesuffix("_by_layer")
            for i, part in enumerate(value):
                yield f"train/{tag}/{i}", part
        elif name not in ("step", "nonfinite_rows"):
            yield f"train/{name}", value

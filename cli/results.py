"""The scores and training runs that run records tell of, by model and task."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformer.file_utils import RUN_RECORD_NAME

EVAL_RECORD_NAME = "eval.json"

# What GLUE prints for a task where that is not the metric the programs select on.
HEADLINE_METRICS = {"MRPC": "f1", "QQP": "f1"}


class Score(NamedTuple):
    """Scores x 100 of one model on one split by one metric, a value per seed."""

    values: tuple[float, ...]
    seeds: tuple[str, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


class Results(NamedTuple):
    """All that was found."""

    scores: dict[tuple[str, str, str, str], Score]  # model, task, split, metric
    headlines: dict[str, tuple[str, str]]  # task -> split, metric
    dev_rows: dict[str, int]  # task -> rows of its dev set
    parameters: dict[str, int]  # model -> its size
    layers: dict[str, int]  # model -> its depth
    folders: dict[tuple[str, str], Path]  # model, task -> where the first seed's model lies
    runs: list[dict[str, Any]]  # records of training runs
    problems: list[str]  # files that could not be read


def model_of(folder: str | Path, task: str | None) -> tuple[str, str]:
    """Split a model folder's name into the model, without its task, and the seed.

    `distilled_tinybert_4l_rte-seed2` on RTE is `("distilled_tinybert_4l", "2")`; a name without a
    seed has the seed "".
    """
    name = Path(folder).name
    name, _, seed = name.partition("-seed")
    if task:
        key = re.escape(task.lower().replace("-", ""))
        name = re.sub(rf"(^|[_-]){key}(?=[_-]|$)", "", name).lstrip("_-")
    return name or Path(folder).name, seed


def read_results(
    folder: str | Path, models: Sequence[Path] = (), home: str | Path | None = None
) -> Results:
    """Read every record under `folder`, and those of the models they name, back to the first.

    Args:
        models: folders of further training runs, to be told of whether anything was scored or not.
        home: where models lie that are not where their records say: the runs were moved.

    A record that is torn or no record, and a score that is no number, is left out and named in `problems`.
    """
    folder = Path(folder)
    problems: list[str] = []
    evaluations = _read_all(sorted(folder.rglob(EVAL_RECORD_NAME)), problems, home)
    runs = _follow(
        [
            *sorted(folder.rglob(RUN_RECORD_NAME)),
            *(_run_of(record.get("student")) for record in evaluations),
            *(_run_of(str(model)) for model in models),
        ],
        problems,
        home,
    )
    scored = {str(record.get("student")) for record in evaluations}
    evaluations += [
        record | {"student": record["output_dir"]}
        for record in runs
        if record.get("metrics")
        and Path(record["output_dir"]).resolve().is_relative_to(folder.resolve())
        and record["output_dir"] not in scored
    ]

    values: dict[tuple[str, str, str, str], dict[str, float]] = {}
    headlines, dev_rows, parameters, layers, folders = {}, {}, {}, {}, {}
    for record in evaluations:
        task = record["task"]
        model, seed = model_of(record["student"], task)
        first = next(iter(record["metrics"]))
        headlines[task] = (first, HEADLINE_METRICS.get(task, record.get("main_metric", "acc")))
        if record.get("data", {}).get(first, {}).get("rows"):
            dev_rows[task] = record["data"][first]["rows"]
        if not seed or (model, task) not in folders:
            folders[model, task] = Path(record["student"])
        facts = record.get("model", {})
        parameters[model] = facts.get("parameters", 0)
        if facts.get("config", {}).get("num_hidden_layers"):
            layers[model] = facts["config"]["num_hidden_layers"]
        for split, metrics in record["metrics"].items():
            for metric, value in metrics.items():
                if math.isfinite(value):
                    values.setdefault((model, task, split, metric), {})[seed] = 100 * value
                else:
                    problems.append(f"{record['student']}: its {metric} on {split} is {value}")
    scores = {
        key: Score(tuple(by_seed[seed] for seed in sorted(by_seed)), tuple(sorted(by_seed)))
        for key, by_seed in values.items()
    }
    return Results(scores, headlines, dev_rows, parameters, layers, folders, runs, problems)


def _run_of(folder: Any) -> Path | None:
    return Path(folder) / RUN_RECORD_NAME if isinstance(folder, str) else None


def _follow(
    paths: Iterable[Path | None], problems: list[str], home: str | Path | None
) -> list[dict[str, Any]]:
    """Read run records and those of the students and teachers they started from."""
    found: dict[Path, dict[str, Any]] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop(0)
        if path is None or path in found or not path.is_file() or ".previous-" in str(path):
            continue
        for record in _read_all([path], problems, home):
            found[path] = record
            waiting += [_run_of(record.get("student")), _run_of(record.get("teacher"))]
    return list(found.values())


def _read_all(
    paths: Sequence[Path], problems: list[str], home: str | Path | None
) -> list[dict[str, Any]]:
    records = []
    for path in paths:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            complete = record["schema"] == 1 and isinstance(record["metrics"], dict)
            complete = complete and (record["task"] or path.name == RUN_RECORD_NAME)
            for name in ("output_dir", "student", "stage"):
                complete = complete and isinstance(record[name], str)
            if not complete or (path.name == EVAL_RECORD_NAME and not record["metrics"]):
                raise ValueError("incomplete")
            for metrics in record["metrics"].values():
                {name: float(value) for name, value in metrics.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            problems.append(f"{path}: not a run record")
        else:
            records.append(_placed(record, home))
    return records


def _placed(record: dict[str, Any], home: str | Path | None) -> dict[str, Any]:
    """The record with models that are not where it says looked for in `home`, by their names."""
    moved = {}
    for key in ("student", "teacher", "output_dir") if home is not None else ():
        path = Path(record.get(key) or "")
        if path.name and not path.exists() and (there := Path(home) / path.name).is_dir():
            moved[key] = str(there)
    return record | moved

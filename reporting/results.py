"""The scores and training runs that run records tell of, by model and task."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from files.atomic import RUN_RECORD_NAME
from reporting.names import is_recipe, model_of

EVAL_RECORD_NAME = "eval.json"

# What GLUE prints for a task where that is not the metric the programs select on.
HEADLINE_METRICS = {"MRPC": "f1", "QQP": "f1"}

# Flags in which the runs that are averaged over seeds agree.
SETTINGS = (
    "learning_rate", "num_train_epochs", "max_steps", "train_batch_size", "max_seq_length", "optimizer",
    "clip", "weight_decay", "warmup_proportion", "aug_train", "temperature", "ce_reduction",
    "hard_labels", "layer_map", "head",
)  # fmt: skip


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
    """All that was found.

    What was scored on another dev set of a task stands under a name of its own, such as `RTE [2]`.
    """

    scores: dict[tuple[str, str, str, str], Score]  # model, task, split, metric
    tasks: dict[str, str]  # such a name -> the task
    notes: list[str]  # what was kept apart, and why
    headlines: dict[str, tuple[str, str]]  # task -> split, metric
    dev_rows: dict[str, int]  # task -> rows of its dev set
    parameters: dict[str, int]  # model -> its size
    layers: dict[str, int]  # model -> its depth
    folders: dict[tuple[str, str], Path]  # model, task -> where the first seed's model lies
    runs: list[dict[str, Any]]  # records of training runs
    problems: list[str]  # files that could not be read
    # tasks of one's own -> what their files say
    definitions: dict[str, dict[str, Any]] = {}


def read_results(
    folder: str | Path,
    models: Sequence[Path] = (),
    home: str | Path | None = None,
    only: str | None = None,
) -> Results:
    """Read every record under `folder`, and those of the models they name, back to the first.

    Args:
        models: folders of further training runs, to be told of whether anything was scored or not.
        home: where models lie that are not where their records say: the runs were moved.
        only: the one task to tell of; None for all.

    A record that is incomplete or not a record, and a score that is not a number, is left out and named in
    `problems`.
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
        for record in runs.values()
        if record.get("metrics")
        and Path(record["output_dir"]).resolve().is_relative_to(folder.resolve())
        and record["output_dir"] not in scored
    ]

    found = [_evaluation(record, runs) for record in evaluations if only in (None, record["task"])]
    notes: list[str] = []
    found = _same_data(found, notes)
    found = _same_settings(found, notes)
    found = _one_each(found, notes)
    return _collect(found, list(runs.values()), notes, problems)


class Evaluation(NamedTuple):
    """A record of an evaluation, and where its scores belong."""

    record: dict[str, Any]
    label: str  # the task, or a name for it with another dev set
    model: str
    seed: str
    settings: dict[str, Any]  # what seeds of one model have in common, as far as it is known

    @property
    def folder(self) -> str:
        return self.record["student"]


def _evaluation(record: dict[str, Any], runs: dict[Path, dict[str, Any]]) -> Evaluation:
    """Where a record's scores belong by what it and its model's run say; the run's seed wins over names."""
    run = runs.get(Path(record["student"]) / RUN_RECORD_NAME, {})
    flags = run.get("arguments") or {}
    model, seed = model_of(record["student"], record["task"], seed_of(run))
    settings = {name: flags[name] for name in SETTINGS if name in flags}
    settings["parameters"] = (record.get("model") or {}).get("parameters")
    settings["length when scored"] = (record.get("arguments") or {}).get("max_seq_length")
    settings = {name: value for name, value in settings.items() if value is not None}
    return Evaluation(record, record["task"], model, seed, settings)


def seed_of(run: dict[str, Any]) -> int | None:
    """The seed that a run's record tells."""
    seed = (run.get("arguments") or {}).get("seed")
    return seed if isinstance(seed, int) else None


def _alike(
    items: Iterable[Evaluation], facts_of: Callable[[Evaluation], dict[str, Any]]
) -> list[list[Evaluation]]:
    """Groups in which no fact that two of them have differs; the largest group first."""
    groups: list[tuple[dict[str, Any], list[Evaluation]]] = []
    for item in items:
        facts = facts_of(item)
        for known, members in groups:
            if all(known.get(name, value) == value for name, value in facts.items()):
                known.update(facts)
                members.append(item)
                break
        else:
            groups.append((dict(facts), [item]))
    return sorted((members for _, members in groups), key=len, reverse=True)


def _dev_facts(evaluation: Evaluation) -> dict[str, Any]:
    """Checksum and rows of each dev set, as far as the record has them, and what of them is read."""
    data = evaluation.record.get("data") or {}
    definition = evaluation.record.get("task_definition") or {}
    unread = ("files", "max_length", "epochs")
    read = sorted((key, str(value)) for key, value in definition.items() if key not in unread)
    return {"definition": str(read)} | {
        f"{split} {name}": data[split][name]
        for split in evaluation.record["metrics"]
        for name in ("sha256", "rows")
        if isinstance(data.get(split), dict) and data[split].get(name)
    }


def _same_data(found: list[Evaluation], notes: list[str]) -> list[Evaluation]:
    """Give each dev set of a task its own name: scores on different rows cannot be compared."""
    sorted_out = []
    for task in dict.fromkeys(item.label for item in found):
        groups = _alike((item for item in found if item.label == task), _dev_facts)
        groups.sort(key=lambda group: not any(map(_on_glue, group)))
        told = []
        for number, group in enumerate(groups, 1):
            label = task if number == 1 else f"{task} [{number}]"
            sorted_out += [item._replace(label=label) for item in group]
            scored = f"{len(group)} scored" if number == 1 else ", ".join(i.folder for i in group)
            told.append(f"{label}: {_dev_file(group[0])}; {scored}")
        if len(groups) > 1:
            notes.append(f"{task} was scored on {len(groups)} dev sets, which are kept apart")
            notes += told
    return sorted_out


def _on_glue(evaluation: Evaluation) -> bool:
    data = evaluation.record.get("data") or {}
    return any(
        isinstance(facts, dict) and facts.get("dataset") == "GLUE" for facts in data.values()
    )


def _dev_file(evaluation: Evaluation) -> str:
    facts = (evaluation.record.get("data") or {}).get(next(iter(evaluation.record["metrics"])), {})
    checksum = (facts.get("sha256") or "unknown")[:8]
    return f"{facts.get('path', 'a file')} ({facts.get('rows', '?')} rows, sha256 {checksum})"


def _same_settings(found: list[Evaluation], notes: list[str]) -> list[Evaluation]:
    """Give seeds of a model that differ in more than the seed a row of their own."""
    sorted_out = []
    for label, model in dict.fromkeys((item.label, item.model) for item in found):
        of_model = [item for item in found if (item.label, item.model) == (label, model)]
        first, *others = _alike(of_model, lambda item: item.settings)
        sorted_out += first
        common = {name: value for item in first for name, value in item.settings.items()}
        for group in others:
            own = {name: value for item in group for name, value in item.settings.items()}
            odd = [name for name in own if own[name] != common.get(name, own[name])]
            told = ", ".join(f"{name} {own[name]}" for name in odd)
            sorted_out += [item._replace(model=f"{model} ({told})") for item in group]
            theirs = ", ".join(f"{name} {common[name]}" for name in odd)
            notes.append(
                f"{label}: {', '.join(item.folder for item in group)}: {told}; not averaged with "
                f"{first[0].folder}: {theirs}"
            )
    return sorted_out


def _one_each(found: list[Evaluation], notes: list[str]) -> list[Evaluation]:
    """One record for each model and seed: the newest of one folder; other folders get their own row."""
    newest: dict[tuple[str, str, str, str], Evaluation] = {}
    for item in sorted(found, key=lambda item: item.record.get("finished") or ""):
        key = (item.label, item.model, item.seed, os.path.abspath(item.folder))
        older = newest.get(key)
        if older and older.record["metrics"] != item.record["metrics"]:
            notes.append(
                f"{item.label}: {item.folder} was scored more than once; the newest counts"
            )
        newest[key] = item
    kept = [item for item in found if any(item is other for other in newest.values())]
    taken: dict[tuple[str, str, str], list[Evaluation]] = {}
    for item in kept:
        taken.setdefault((item.label, item.model, item.seed), []).append(item)
    sorted_out = []
    for (label, model, seed), items in taken.items():
        names = [Path(item.folder).name for item in items]
        for place, (item, name) in enumerate(zip(items, names, strict=True)):
            alone = len(items) == 1 or (place == 0 and (is_recipe(model) or names.count(name) == 1))
            if not alone and (names.count(name) > 1 or name == model):
                name = f"{Path(item.folder).parent.name}/{name}"
            sorted_out.append(item if alone else item._replace(model=name))
        if len(items) > 1:
            folders = ", ".join(item.folder for item in items)
            notes.append(
                f"{label}: {folders}: the same name and seed ({seed or 'unknown'}); not averaged"
            )
    return sorted_out


def _collect(
    found: list[Evaluation], runs: list[dict[str, Any]], notes: list[str], problems: list[str]
) -> Results:
    values: dict[tuple[str, str, str, str], dict[str, float]] = {}
    headlines, dev_rows, parameters, layers, folders, tasks = {}, {}, {}, {}, {}, {}
    definitions = {}
    for item in found:
        record, label, model = item.record, item.label, item.model
        tasks[label] = record["task"]
        if record.get("task_definition") is not None:
            definitions[label] = record["task_definition"]
        first = next(iter(record["metrics"]))
        main = HEADLINE_METRICS.get(record["task"], record.get("main_metric", "acc"))
        headlines[label] = (first, main)
        if record.get("data", {}).get(first, {}).get("rows"):
            dev_rows[label] = record["data"][first]["rows"]
        if not model_of(item.folder, record["task"])[1] or (model, label) not in folders:
            folders[model, label] = Path(item.folder)
        facts = record.get("model", {})
        parameters[model] = facts.get("parameters", 0)
        if facts.get("config", {}).get("num_hidden_layers"):
            layers[model] = facts["config"]["num_hidden_layers"]
        for split, metrics in record["metrics"].items():
            for metric, value in metrics.items():
                if math.isfinite(value):
                    by_seed = values.setdefault((model, label, split, metric), {})
                    by_seed[item.seed] = 100 * value
                else:
                    problems.append(f"{record['student']}: its {metric} on {split} is {value}")
    scores = {
        key: Score(tuple(by_seed[seed] for seed in sorted(by_seed)), tuple(sorted(by_seed)))
        for key, by_seed in values.items()
    }
    return Results(
        scores,
        tasks,
        notes,
        headlines,
        dev_rows,
        parameters,
        layers,
        folders,
        runs,
        problems,
        definitions,
    )


def _run_of(folder: Any) -> Path | None:
    return Path(folder) / RUN_RECORD_NAME if isinstance(folder, str) else None


def _follow(
    paths: Iterable[Path | None], problems: list[str], home: str | Path | None
) -> dict[Path, dict[str, Any]]:
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
    return found


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

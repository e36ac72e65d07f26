"""The sections of report.py that are tables of what the records tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cli.report_blocks import Block, Bullets, Folded, Table
from cli.results import Results, Score, model_of

TASK_ORDER = ("RTE", "SST-2", "CoLA", "MRPC")  # the published table's


class Published(NamedTuple):
    """A model of the published table: what the report calls it, its depth, and how it came about."""

    name: str
    layers: int
    recipe: str


# By folder name without its task, in the report's order.
MODELS = {
    "final_teacher": Published("teacher", 12, ""),
    "labels_only_4l": Published("4-layer student", 4, ", labels only"),
    "tinybert_4l_no_gd": Published("TinyBERT_4", 4, ", task distillation only"),
    "distilled_tinybert_4l": Published("TinyBERT_4", 4, ", general + task"),
    "distilled_tinybert_6l": Published("TinyBERT_6", 6, ", general + task"),
    "tinybert_6l_smart_init_direct": Published(
        "TinyBERT_6", 6, " smart init, no task distillation"
    ),
    "tinybert_6l_smart_init_direct_tsd": Published("TinyBERT_6", 6, " smart init, task"),
    "tinybert_6l_smart_init": Published("TinyBERT_6", 6, " smart init, general + task"),
}
ORDERINGS = (  # better, worse: what the method promises
    ("final_teacher", "distilled_tinybert_4l"),
    ("distilled_tinybert_4l", "tinybert_4l_no_gd"),
    ("tinybert_4l_no_gd", "labels_only_4l"),
    ("distilled_tinybert_4l", "labels_only_4l"),
    ("distilled_tinybert_6l", "distilled_tinybert_4l"),
    ("tinybert_6l_smart_init_direct_tsd", "tinybert_6l_smart_init_direct"),
    ("tinybert_6l_smart_init", "tinybert_6l_smart_init_direct_tsd"),
    ("tinybert_6l_smart_init", "distilled_tinybert_6l"),
)


def in_order(names: Collection[str], first: Collection[str]) -> list[str]:
    """Those of `names` that `first` knows, in its order, then the others by name."""
    return [name for name in first if name in names] + sorted(set(names) - set(first))


def published_label(model: str) -> str:
    """What the report calls a model of the published size; others go by their folder's name."""
    known = MODELS.get(model)
    return known.name + known.recipe if known else model


def label(results: Results, model: str) -> str:
    """What the report calls a model of this run: a stand-in of another depth is no TinyBERT_4.

    A model that was not scored is called as its like are: a run of stand-ins has no TinyBERT_6.
    """
    known = MODELS.get(model)
    if known is None:
        return model
    depths = {MODELS[m].layers: n for m, n in results.layers.items() if m in MODELS}
    layers = results.layers.get(model) or depths.get(known.layers)
    if layers is None and all(layers == published for published, layers in depths.items()):
        layers = known.layers
    if layers == known.layers:
        return published_label(model)
    kind = "teacher" if known.name == "teacher" else "student"
    if layers is None:
        return f"stand-in for the {known.layers}-layer {kind}{known.recipe}"
    return f"{layers}-layer {kind}{known.recipe}"


def stand_ins(results: Results) -> str:
    """A sentence on the models whose depth is not the published one; empty where all have it."""
    found = {
        (known.layers, results.layers[model]): known.name
        for model, known in MODELS.items()
        if results.layers.get(model, known.layers) != known.layers
    }
    if not found:
        return ""
    parts = (
        f"{here} layers for the {'teacher' if name == 'teacher' else 'student'} of {published}"
        for (published, here), name in found.items()
    )
    return f" The models are stand-ins of other depths than the published ones: {', '.join(parts)}."


def headline(results: Results, model: str, task: str) -> Score | None:
    """The one score a table shows for a model on a task."""
    return results.scores.get((model, task, *results.headlines[task]))


def results_section(results: Results, models: list[str], tasks: list[str]) -> list[Block]:
    if not tasks:
        return []
    rows = [
        [label(results, model), *(headline(results, model, task) or "–" for task in tasks)]
        for model in models
    ]
    names = {"acc": "accuracy", "f1": "F1", "mcc": "Matthews", "corr": "mean correlation"}
    how = ", ".join(f"{t} {names.get(m, m)}" for t, (_, m) in results.headlines.items())
    seeds = max(len(score.values) for score in results.scores.values())
    over = "one seed" if seeds == 1 else f"mean ± standard deviation over up to {seeds} seeds"
    return [
        Table(["model", *tasks], rows),
        f"Dev scores × 100 ({how}); {over}.{stand_ins(results)}",
    ]


def orderings_section(results: Results, tasks: list[str]) -> list[Block]:
    """Each ordering: the difference of the means, and in how many of the common seeds it holds."""

    def compare(better: str, worse: str, task: str) -> str:
        high, low = headline(results, better, task), headline(results, worse, task)
        if high is None or low is None:
            return "–"
        difference = round(high.mean - low.mean, 1) + 0.0
        verdict = "yes" if difference > 0 else "tie" if difference == 0 else "NO"
        ours, theirs = (dict(zip(s.seeds, s.values, strict=True)) for s in (high, low))
        common = ours.keys() & theirs.keys()
        wins = sum(ours[seed] > theirs[seed] for seed in common)
        share = f" ({wins}/{len(common)})" if len(common) > 1 else ""
        return f"{verdict} {difference:+.1f}{share}"

    rows = [
        [
            f"{label(results, better)} > {label(results, worse)}",
            *(compare(better, worse, task) for task in tasks),
        ]
        for better, worse in ORDERINGS
    ]
    if all(cell == "–" for row in rows for cell in row[1:]):
        return []
    sizes = ", ".join(f"{task} {rows}" for task, rows in results.dev_rows.items())
    return [
        Table(["ordering", *tasks], rows),
        f"Difference of the scores; with several seeds, in how many of them it holds. With dev sets "
        f"this small (rows: {sizes}), differences of two or three points in one seed may be chance.",
    ]


def published_section(
    results: Results, figures: list[dict], tasks: list[str], embedded: bool
) -> list[Block]:
    if not tasks:
        why = "no dev set here has GLUE's size"
        if embedded:
            why = "the tasks here are made by demo/, not GLUE's"
        return [f"Not comparable with published figures: {why}."]
    remarks = {
        "dev": "Measured on the same dev sets as ours.",
        "test": "Measured by GLUE's server on the test sets: another split, for orientation only.",
    }
    blocks: list[Block] = []
    for split, remark in remarks.items():
        rows = []
        for figure in figures:
            if figure["split"] != split:
                continue
            name = " ".join(filter(None, [figure["source"], figure["variant"]]))
            cells = []
            for task in tasks:
                ours = headline(results, figure["model"], task)
                theirs = figure.get(task)
                both = ours is not None and theirs is not None
                difference = f" (ours {ours.mean - theirs:+.1f})" if both else ""
                cells.append("–" if theirs is None else f"{theirs:.1f}{difference}")
            rows.append([published_label(figure["model"]), name, *cells])
        header = ["model", f"published, {split}", *tasks]
        blocks += [Table(header, rows), remark]
    return blocks


def metrics_section(results: Results, models: list[str], tasks: list[str]) -> list[Block]:
    keys = sorted({key[1:] for key in results.scores}, key=lambda key: (tasks.index(key[0]), key))
    rows = [
        [label(results, model), *key, results.scores[(model, *key)]]
        for model in models
        for key in keys
        if (model, *key) in results.scores
    ]
    if not rows:
        return []
    table = Table(["model", "task", "split", "metric", "score × 100"], rows)
    return [Folded("every metric of every model", [table])]


def training_section(results: Results) -> list[Block]:
    """Steps and seconds of the training runs, those of one model on several tasks added up."""
    sums: dict[tuple[str, str], list[float]] = {}
    for run in results.runs:
        model, _ = model_of(run["output_dir"], run["task"])
        total = sums.setdefault((model, run["stage"]), [0, 0, 0.0])
        for i, value in enumerate((1, run.get("steps") or 0, run.get("seconds") or 0.0)):
            total[i] += value
    rows = [
        [model, stage, int(runs), f"{int(steps):,}", f"{seconds:,.0f}"]
        for (model, stage), (runs, steps, seconds) in sums.items()
    ]
    return [Table(["model", "stage", "runs", "steps", "seconds"], rows)] if rows else []


def time_section(folder: Path) -> list[Block]:
    """Seconds of each stage, as reproduction.sh noted them."""
    seconds: dict[str, int] = {}
    paths = (folder / "stages").glob("*.seconds")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        if (text := path.read_text(encoding="utf-8").strip()).isdigit():
            seconds[path.stem] = int(text)
    if not seconds:
        return []
    return [Table(["stage", "seconds"], [*seconds.items(), ("total", sum(seconds.values()))])]


def missing_section(
    results: Results, tasks: Sequence[str], unfinished: Sequence[str], problems: Sequence[str]
) -> list[Block]:
    """Which cells of the report's table have no record, and what else is not as it should be."""
    lines = []
    for model in MODELS:
        absent = [task for task in tasks if headline(results, model, task) is None]
        if absent or not tasks:
            told = ", ".join(absent) or "no task at all"
            lines.append(f"no score of {label(results, model)} ({model}): {told}")
    lines += missing_seeds(results, tasks)
    lines += [f"unfinished training: {run}" for run in unfinished]
    lines += [*results.problems, *problems]
    return [Bullets(lines)] if lines else []


def missing_seeds(results: Results, tasks: Sequence[str]) -> list[str]:
    """Which models lack seeds that others have on the task, of those that were run with several."""
    found = {
        (model, task): set(score.seeds)
        for model in {model for model, *_ in results.scores}
        for task in tasks
        if (score := headline(results, model, task))
    }
    several = {model for (model, _), seeds in found.items() if len(seeds) > 1}
    lines = []
    for task in tasks:
        every = set().union(*(found.get((model, task), set()) for model in several))
        for model in in_order(several, MODELS):
            own = found.get((model, task))
            if own and (absent := sorted(every - own)):
                told = ", ".join(seed or "the first" for seed in absent)
                lines.append(
                    f"no score of {label(results, model)} ({model}) on {task}: seed {told}"
                )
    return lines

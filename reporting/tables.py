"""The sections of report.py that are tables of what the records tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from reporting.blocks import Block, Bullets, Folded, Table
from reporting.names import MODELS, label, model_of, published_label, stand_ins
from reporting.results import Results, Score, seed_of

TASK_ORDER = ("RTE", "SST-2", "CoLA", "MRPC")  # the published table's
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


def columns(results: Results) -> list[str]:
    """The tasks in the report's order, each with its further dev sets beside it."""
    tasks = in_order(set(results.tasks.values()), TASK_ORDER)
    return sorted(results.tasks, key=lambda name: (tasks.index(results.tasks[name]), name))


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
    how = ", ".join(
        f"{t} {names.get(m, m)}"
        for t, (_, m) in results.headlines.items()
        if t in results.tasks.values()
    )
    seeds = max(len(score.values) for score in results.scores.values())
    over = "one seed" if seeds == 1 else f"mean ± standard deviation over up to {seeds} seeds"
    return [
        Table(["model", *tasks], rows),
        f"Dev scores × 100 ({how}); {over}.{stand_ins(results)}",
        *([Bullets(results.notes)] if results.notes else []),
    ]


def orderings_section(results: Results, tasks: list[str], every: bool) -> list[Block]:
    """Each ordering: the difference of the means, and in how many of the common seeds it holds.

    Args:
        every: also those of which nothing is known.
    """

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
    compared = [row for row in rows if any(cell != "–" for cell in row[1:])]
    if not compared:
        return []
    sizes = ", ".join(f"{task} {rows}" for task, rows in results.dev_rows.items())
    return [
        Table(["ordering", *tasks], rows if every else compared),
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
        model, _ = model_of(run["output_dir"], run["task"], seed_of(run))
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
    results: Results,
    tasks: Sequence[str],
    wanted: Sequence[str],
    unfinished: Sequence[str],
    problems: Sequence[str],
) -> list[Block]:
    """Which cells of the report's table have no record, and what else is not as it should be.

    Args:
        wanted: the models that were asked for.
    """
    tasks = [task for task in tasks if results.tasks[task] == task]
    lines = []
    for model in wanted:
        absent = [task for task in tasks if headline(results, model, task) is None]
        if absent or not tasks:
            told = ", ".join(absent) or "no task at all"
            lines.append(f"no score of {label(results, model)} ({model}): {told}")
    if not (results.scores or wanted):
        lines.append("no score yet: task_distill.py --do_eval writes one into --output_dir")
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

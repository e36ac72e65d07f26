"""What each part of the method is worth: our ablations beside the paper's Tables 2 to 4."""

from __future__ import annotations

from collections.abc import Sequence

from reporting.blocks import Block, Table
from reporting.names import ABLATION
from reporting.results import Results
from reporting.tables import headline

PUBLISHED_COLUMNS = ("MNLI-m", "MNLI-mm", "MRPC", "CoLA", "average")


def is_ablation(model: str) -> bool:
    """Whether a model belongs to this table and to no other."""
    return model.startswith(ABLATION)


def ablated_tasks(results: Results, tasks: Sequence[str], published: list[dict]) -> list[str]:
    """The tasks on which at least one ablation was scored."""
    models = [entry["model"] for entry in published if is_ablation(entry["model"])]
    return [task for task in tasks if any(headline(results, model, task) for model in models)]


def missing_ablations(results: Results, tasks: Sequence[str], published: list[dict]) -> list[str]:
    """What the table lacks on those tasks, a line each."""
    tasks = [task for task in tasks if results.tasks[task] == task]
    return [
        f"no score of the ablation {entry['variant']} ({entry['model']}): {task}"
        for task in ablated_tasks(results, tasks, published)
        for entry in published
        if is_ablation(entry["model"]) and headline(results, entry["model"], task) is None
    ]


def ablations_section(results: Results, tasks: Sequence[str], published: list[dict]) -> list[Block]:
    """Two tables: scores here with the difference to the whole method, and the published ones."""
    whole = published[0]
    tasks = ablated_tasks(results, tasks, published)
    if not tasks:
        return []

    def ours(model: str, task: str) -> str:
        score, full = headline(results, model, task), headline(results, whole["model"], task)
        if score is None:
            return "–"
        return f"{score}{_change(score.mean, full and full.mean)}"

    def theirs(entry: dict, column: str) -> str:
        return f"{entry[column]:.1f}{_change(entry[column], whole[column])}"

    return [
        Table(
            ["here, dev", *tasks],
            [
                [entry["variant"], *(ours(entry["model"], task) for task in tasks)]
                for entry in published
            ],
        ),
        "In brackets the change against the whole method. What is left out is left out of general "
        "and of task distillation; without the prediction loss means: labels of the original rows.",
        Table(
            ["the paper's Tables 2 to 4, dev", *PUBLISHED_COLUMNS],
            [
                [entry["variant"], *(theirs(entry, column) for column in PUBLISHED_COLUMNS)]
                for entry in published
            ],
        ),
    ]


def _change(score: float, full: float | None) -> str:
    return "" if full is None or score == full else f" ({score - full:+.1f})"

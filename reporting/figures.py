"""The sections of report.py that hold figures. Only these import what draws."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from files.errors import setting
from files.parallel import ordered_map
from reporting import models as models_of
from reporting.blocks import Block, Figure, Figures, Folded, Table
from reporting.curves import CURVES_NAME, draw_curves, undrawn
from reporting.names import label, model_of
from reporting.results import Results
from reporting.tables import headline

SCORES_NAME = "scores.png"


def bars_section(
    results: Results,
    models: Sequence[str],
    tasks: Sequence[str],
    figures: list[dict],
    folder: Path,
) -> list[Block]:
    """Scores of every model on each task, in `folder` also as one picture.

    Args:
        figures: published scores that may stand beside them.
    """
    from reporting import plots

    drawn, panels = [], []
    for task in tasks:
        scores = {label(results, m): headline(results, m, task) for m in models}
        rows = [(name, score.mean, score.std) for name, score in scores.items() if score]
        if not rows:
            continue
        marks = {
            label(results, figure["model"]): figure[task]
            for figure in figures
            if figure["split"] == "dev" and figure["source"] == "paper" and task in figure
        }
        told = ", ".join(f"{name} {score}" for name, score in scores.items() if score)
        drawn.append(Figure(plots.score_bars(task, rows, marks), f"Dev scores on {task}: {told}."))
        panels.append((task, rows, marks))
    if not drawn:
        return []
    plots.draw_scores(panels, folder / SCORES_NAME)
    return [Figures(drawn)]


def size_section(
    results: Results,
    models: Sequence[str],
    tasks: Sequence[str],
    published: list[dict],
    record: Path,
) -> list[Block]:
    """Parameters, latency and average score of every model that has them."""
    from reporting import plots

    folders = {}
    for (model, _), folder in results.folders.items():
        if model in models:
            folders.setdefault(model, folder)
    milliseconds = models_of.latencies(folders, record)
    averages = {}
    for model in models:
        scores = [headline(results, model, task) for task in tasks]
        if scores and all(scores):
            averages[model] = statistics.fmean(score.mean for score in scores)
    rows, points = [], []
    for model in models:
        size, times = results.parameters.get(model), milliseconds.get(model)
        average = averages.get(model)
        if not size:
            continue
        rows.append(
            [
                label(results, model),
                f"{size / 1e6:.2f} M",
                *(f"{times[str(b)]:.1f}" if times else "–" for b in models_of.BATCHES),
                f"{average:.1f}" if average is not None else "–",
            ]
        )
        if times and average is not None:
            points.append((label(results, model), times, average, size))
    if not rows:
        return []
    header = [
        "model",
        "parameters",
        *(f"ms, batch {b}" for b in models_of.BATCHES),
        "average score",
    ]
    paper = ", ".join(
        f"{entry['model']} {entry['parameters'] / 1e6:.4g} M ({entry['speedup']:.1f}×)"
        for entry in published
    )
    blocks: list[Block] = [Table(header, rows)]
    if milliseconds:
        blocks.append(
            f"Milliseconds of a forward pass, the shortest of {models_of.REPEATS}, on the CPU, "
            f"{models_of.LENGTH} tokens a row; models of one shape are measured once. Average over "
            f"{', '.join(tasks)}."
        )
    blocks.append(f"The paper's models, with their speed: {paper}.")
    if points:
        drawn = []
        for batch in models_of.BATCHES:
            own = [(name, times[str(batch)], score, size) for name, times, score, size in points]
            told = ", ".join(f"{name} {ms:.1f} ms, {score:.1f}" for name, ms, score, _ in own)
            alt = f"Average score over latency, batch {batch}: {told}. Areas are parameters."
            drawn.append(Figure(plots.size_latency_score(own, batch), alt))
        blocks.append(Figures(drawn))
    return blocks


def attention_section(lineage: models_of.Lineage, sentence: str | None) -> list[Block]:
    """Attention maps of teacher and student, layer pair by layer pair."""
    from reporting import plots

    maps = models_of.attention_maps(lineage, sentence)
    text = " ".join(maps.tokens)
    drawn = [
        Figure(
            plots.attention_pair(maps.tokens, pair),
            f"Attention of {' and '.join(title for title, _ in pair)} for: {text}",
        )
        for pair in maps.pairs
    ]
    student = list(lineage.stages.values())[-1].name
    return [
        f"{student} and {lineage.teacher.name}, averaged over the heads; a row shows where its token "
        f"looks. Another sentence: {setting('sentence')}; of a long one the first {models_of.TOKENS} tokens.",
        Figures(drawn),
    ]


def distance_section(lineage: models_of.Lineage) -> list[Block]:
    """Distances by layer at each stage, as figures and as a table."""
    from reporting import plots

    found = models_of.distances(lineage)
    drawn, rows = [], []
    for title, layers, stages in (
        ("attention scores, MSE", found.attention_layers, found.attention),
        ("hidden states, MSE", found.hidden_layers, found.hidden),
    ):
        if not stages:
            continue
        alt = "; ".join(
            f"{stage}: {', '.join(f'{v:.3g}' for v in values)}" for stage, values in stages.items()
        )
        drawn.append(
            Figure(plots.layer_distances(title, layers, stages), f"{title} by layer. {alt}")
        )
        rows += [
            [f"{title.split(',')[0]}, {layer}", *(f"{values[i]:.3g}" for values in stages.values())]
            for i, layer in enumerate(layers)
        ]
    student = list(lineage.stages.values())[-1].name
    return [
        f"{student} and {lineage.teacher.name} on the first {models_of.ROWS} dev rows of "
        f"{lineage.task.folder}.",
        "A distance need not fall at every stage. General distillation fits the student to the general "
        "teacher, as it was before it was fine-tuned, and so may take it away from the task's. The last "
        "stage trains the whole student on the teacher's logits alone, and its layers drift.",
        Figures(drawn),
        Table(["distance to the teacher", *found.hidden], rows),
    ]


def curves_section(runs: Sequence[Path], home: Path) -> list[Block]:
    """Training curves of each run below `home`; those not drawn yet are drawn."""
    waiting = [run for run in runs if undrawn(run)]
    # A further process costs about as long to start as four pictures.
    for _ in ordered_map(draw_curves, waiting, min(os.cpu_count() or 1, 1 + len(waiting) // 16)):
        pass
    drawn = [run for run in runs if (run / CURVES_NAME).is_file()]
    first: dict[str, Path] = {}
    for run in sorted(drawn, key=lambda run: model_of(run, None)[1]):
        first.setdefault(model_of(run, None)[0], run)
    shown = [run for run in drawn if run in first.values()]
    blocks: list[Block] = [
        Folded(
            (name := str(run.relative_to(home))),
            [Figures([Figure((run / CURVES_NAME).read_bytes(), f"Training curves of {name}")])],
        )
        for run in shown
    ]
    if len(shown) < len(drawn):
        blocks.append(f"Those of further seeds are {CURVES_NAME} beside the models.")
    return blocks

"""Compare the ways to a DistilBERT: scores over seeds, what is retained of the teacher, size and speed.

    python distilbert/report.py --runs finetuned=checkpoints direct=checkpoints_direct_distil \\
        --output_dir results/distilbert

A folder that distilbert/finetune.py or distilbert/direct_distil.py wrote is named by what it is an example
of; several folders of one name are several seeds. Writes report.md, and scores.png with the bars.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch

from cli.help import script_parser
from files.atomic import RUN_RECORD_NAME, atomic_open
from files.errors import UserError, run_script
from transformer.modeling import TinyBertForSequenceClassification

TITLES = {
    "teacher": "teacher",
    "finetuned": "pre-trained and fine-tuned",
    "direct": "distilled directly",
    "labels": "labels alone",
    "full": "all losses, from the teacher's layers",
    "no_ce": "without soft targets (published: -2.96)",
    "no_cos": "without cosine (published: -1.46)",
    "no_mlm": "without masked words (published: -0.31)",
    "random": "random initialisation (published: -3.69)",
}
GRID_NAME, METRICS_NAME = "glue_cross_eval_metrics.json", "metrics.json"
LENGTH, REPEATS = 32, 20
Scores = dict[str, dict[str, list[float]]]  # way -> task -> accuracy of each seed


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="NAME=FOLDER", help="what to compare"
    )
    parser.add_argument("--output_dir", required=True, help="folder for the report")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    runs: dict[str, list[Path]] = defaultdict(list)
    for text in args.runs:
        name, equals, folder = text.partition("=")
        if not equals or name not in TITLES or name == "teacher":
            names = ", ".join(name for name in TITLES if name != "teacher")
            raise UserError(f"--runs {text}: expected NAME=FOLDER, where NAME is one of {names}")
        runs[name].append(Path(folder))
    scores = read_scores(runs)
    lines = ["# DistilBERT, compared\n", *score_table(scores), "", *grid_table(runs), *speed(runs)]
    text = "\n".join(lines) + "\n"
    folder = Path(args.output_dir)
    with atomic_open(folder / "report.md") as file:
        file.write(text)
    draw(scores, folder / "scores.png")
    print(text, end="")
    return 0


def read_scores(runs: Mapping[str, Iterable[Path]]) -> Scores:
    """The accuracy of every way on every task, of each seed; the teacher's once."""
    scores: Scores = defaultdict(lambda: defaultdict(list))
    for name, folders in runs.items():
        for folder in folders:
            if (folder / GRID_NAME).exists():
                for task, row in read(folder / GRID_NAME).items():
                    scores[name][task].append(row[task]["accuracy"])
                continue
            for task, told in read(folder / METRICS_NAME).items():
                scores[name][task].append(told["student"]["accuracy"])
                scores["teacher"][task] = [told["teacher"]["accuracy"]]
    return {name: scores[name] for name in TITLES if name in scores}


def read(path: Path) -> dict:
    """A file that one of the scripts wrote."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a folder of a finished run") from None


def cell(values: Sequence[float]) -> str:
    """Mean × 100, and the deviation where there are several."""
    mean = f"{100 * statistics.mean(values):.1f}" if values else "-"
    return mean + (f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else "")


def score_table(scores: Scores) -> list[str]:
    """Accuracy of each way on each task, and the share of the teacher's that it retains."""
    tasks = list(dict.fromkeys(task for by_task in scores.values() for task in by_task))
    lines = [f"| accuracy × 100 | {' | '.join(tasks)} | mean | of the teacher's |",
             "|---" * (len(tasks) + 3) + "|"]  # fmt: skip
    means = {
        name: statistics.mean(statistics.mean(values) for values in by_task.values())
        for name, by_task in scores.items()
    }
    for name, by_task in scores.items():
        share = f"{means[name] / means['teacher']:.1%}" if "teacher" in means else "-"
        cells = [cell(by_task.get(task, [])) for task in tasks]
        lines.append(
            f"| {TITLES[name]} | {' | '.join(cells)} | {100 * means[name]:.1f} | {share} |"
        )
    seeds = {name: max(map(len, by_task.values())) for name, by_task in scores.items()}
    told = ", ".join(f"{TITLES[name]} {count}" for name, count in seeds.items())
    return [*lines, "", f"Mean ± standard deviation over seeds: {told}."]


def grid_table(runs: Mapping[str, Sequence[Path]]) -> list[str]:
    """The cross grid of the first seed."""
    if "finetuned" not in runs:
        return []
    grid = read(runs["finetuned"][0] / GRID_NAME)
    lines = ["## Cross grid\n", f"| fine-tuned on, scored on | {' | '.join(grid)} |",
             "|---" * (len(grid) + 1) + "|"]  # fmt: skip
    for name, row in grid.items():
        cells = [f"{100 * row[task]['accuracy']:.1f}" if task in row else "-" for task in grid]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def speed(runs: Mapping[str, Sequence[Path]]) -> list[str]:
    """Parameters, and milliseconds for one sequence, of a student and its teacher, in turns."""
    found = [path for name in ("direct", "labels") for path in runs.get(name, ())]
    if not found:
        return []
    task = next(iter(read(found[0] / METRICS_NAME)))
    student = found[0] / task
    teacher = read(student / RUN_RECORD_NAME)["teacher"]
    models = {
        name: TinyBertForSequenceClassification.from_pretrained(source)
        for name, source in (("teacher", teacher), ("student", student))
    }
    ids = torch.randint(5, 100, (1, LENGTH))
    taken: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(REPEATS + 3):
            for name, model in models.items():
                start = time.perf_counter()
                model(ids)
                if turn >= 3:
                    taken[name].append(1000 * (time.perf_counter() - start))
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    times = {name: statistics.median(values) for name, values in taken.items()}
    lines = [
        "## Size and speed\n",
        f"| | parameters | ms for one sequence of {LENGTH} tokens |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {sizes[name]:,} | {times[name]:.2f} |" for name in models]
    smaller = 1 - sizes["student"] / sizes["teacher"]
    faster = times["teacher"] / times["student"] - 1
    return [
        *lines,
        "",
        f"The student is {smaller:.0%} smaller and {faster:.0%} faster; the paper's: 40 %, 60 %.",
    ]


def draw(scores: Scores, path: Path) -> None:
    """Bars of every way, a panel for each task."""
    from reporting.plots import draw_scores  # matplotlib takes half a second

    tasks = list(dict.fromkeys(task for by_task in scores.values() for task in by_task))
    panels = []
    for task in tasks:
        bars = [
            (TITLES[name], 100 * statistics.mean(by_task[task]),
             100 * statistics.stdev(by_task[task]) if len(by_task[task]) > 1 else None)
            for name, by_task in scores.items() if by_task.get(task)
        ]  # fmt: skip
        panels.append((task, bars, {}))
    draw_scores(panels, path)


if __name__ == "__main__":
    run_script(main)
